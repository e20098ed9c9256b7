"""`guardproxy --version` says which commit this is, where that is known."""

from __future__ import annotations

import pytest

from guardproxy import __version__
from guardproxy.cli.main import main
from guardproxy.cli.version import version

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHOWN = f"guardproxy {__version__} (commit 0123456789ab)"


def package(folder, **files):
    for name, text in files.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "guardproxy").mkdir(exist_ok=True)
    return folder / "guardproxy"


@pytest.mark.parametrize(
    "files, says",
    [
        ({"guardproxy__COMMIT": COMMIT + "\n"}, SHOWN),
        ({".git__HEAD": COMMIT}, SHOWN),
        ({".git__HEAD": "ref: refs/heads/main\n", ".git__refs__heads__main": COMMIT}, SHOWN),
        ({".git__HEAD": "ref: refs/heads/main", ".git__packed-refs": f"# x\n{COMMIT} refs/heads/main"}, SHOWN),
        ({".git__HEAD": "ref: refs/heads/main"}, f"guardproxy {__version__}"),
        ({}, f"guardproxy {__version__}"),
    ],
)
def test_where_the_commit_is_found(tmp_path, files, says):
    """In the package as built, else in the checkout, whichever way git keeps it there; else it is not known."""
    assert version(package(tmp_path, **files)) == says


def test_the_command(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"guardproxy {__version__}")
