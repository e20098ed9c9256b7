"""Makes one site of files that are also read where they lie.

The front page is README.md.  A link to a file outside of docs/ stays a link where the file is a page of the site, and
becomes its path in the repository where it is none; a link to a file that is not there is an error, as are all other
broken links (`mkdocs build --strict`).
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"(!?\[(?P<text>[^\]]*)\])\((?P<to>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
_FENCE = re.compile(r"^(?:    |\t|```)")


def on_files(files: Files, config: Any) -> Files:
    """The front page."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Every link, as it is on the site."""
    source = "README.md" if page.file.src_uri == "index.md" else f"docs/{page.file.src_uri}"
    lines = markdown.split("\n")
    return "\n".join(
        line if _FENCE.match(line) else _LINK.sub(lambda found: _link(found, source), line) for line in lines
    )


def _link(found: re.Match[str], source: str) -> str:
    target = found["to"]
    if re.match(r"[a-z]+:", target):
        return found[0]
    place = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if not (ROOT / place).exists():
        raise PluginError(f"{source} links {target}, which is not there")
    if place == "README.md":
        place = "docs/index.md"
    if place.startswith("docs/") and (place == "docs/index.md" or (ROOT / place).is_file()):
        here = "docs/index.md" if source == "README.md" else source
        return f"{found[1]}({posixpath.relpath(place, posixpath.dirname(here))}{found['anchor'] or ''})"
    text = found["text"]
    return text if place in text or posixpath.basename(place) in text else f"{text} (`{place}`)"
