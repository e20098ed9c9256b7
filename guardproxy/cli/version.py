"""What ``guardproxy --version`` says: the version, and the commit where it is known.

Here belongs finding the commit: in the file that a build writes into the package, else in the checkout that the package
runs from.  Nothing else asks for it, so nothing here is read until it is wanted.
"""

from __future__ import annotations

from pathlib import Path

from guardproxy import __version__

PACKAGE = Path(__file__).parents[1]
SHOWN = 12
"""Characters of a commit that are shown."""


def version(package: Path = PACKAGE) -> str:
    """The line that ``--version`` prints."""
    commit = _built(package) or _checked_out(package.parent / ".git")
    return f"guardproxy {__version__} (commit {commit[:SHOWN]})" if commit else f"guardproxy {__version__}"


def _built(package: Path) -> str:
    file = package / "COMMIT"
    return file.read_text().strip() if file.is_file() else ""


def _checked_out(git: Path) -> str:
    """The commit that is checked out, read without git: it need not be there."""
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
        return next((line.partition(" ")[0] for line in packed if line.endswith(f" {name}")), "")
    except OSError:
        return ""
