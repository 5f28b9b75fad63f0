"""Pages of the site that lie outside of docs/, where a reader of the repository expects them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent.parent

# By its path in the repository: what a page is called on the site.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "tests/fuzz/README.md": "fuzzing.md",
}
LINK = re.compile(r"\[(?P<text>[^]]*)\]\((?!\w+:|#)(?P<target>[^)#]+)(?P<anchor>#[^)]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for path, name in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Let links lead to where their page is on the site; what is not on it is named without one."""
    name = page.file.src_uri
    path = next((path for path, new in PAGES.items() if new == name), f"docs/{name}")

    def replaced(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match["target"]))
        if target in PAGES:
            target = PAGES[target]
        elif target.startswith("docs/"):
            target = target.removeprefix("docs/")
        elif (ROOT / target).exists():
            return match["text"]
        place = posixpath.relpath(target, posixpath.dirname(name) or ".")
        return f"[{match['text']}]({place}{match['anchor'] or ''})"

    return LINK.sub(replaced, markdown)
