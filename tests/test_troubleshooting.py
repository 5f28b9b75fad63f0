"""docs/troubleshooting.md quotes what the server says, as whoever is in trouble searches for exactly that."""

from __future__ import annotations

import re

import pytest

from server import TESTS

PAGE = (TESTS.parent / "docs" / "troubleshooting.md").read_text()
#: What stands for the part of a message that differs, in the page and in place of a format's `{name}`.
GAP = "..."
QUOTED_MIN = 60


def quotations() -> list[str]:
    """What first columns of tables have in code type and is more than a word."""
    cells = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| ")]
    spans = [span for cell in cells for span in re.findall(r"`([^`]+)`", cell)]
    return [span for span in spans if " " in span]


def sayings() -> str:
    """All that the sources say, each literal on one line, with a gap where something is put in."""
    sources = [
        *(TESTS.parent / "src").rglob("*.rs"),
        *(TESTS.parent / "workers").rglob("*.py"),
    ]
    text = "\n".join(path.read_text() for path in sources if path.name != "tests.rs")
    text = re.sub(r"\\\n\s*", "", text)  # a literal of Rust that goes on
    text = re.sub(r'"\s*\n\s*f?"', "", text)  # literals of Python side by side
    text = re.sub(r"\{[^{}\n]*\}", GAP, text)
    return text.replace(GAP + GAP, GAP)


SAYINGS = sayings()


def test_there_is_something_quoted() -> None:
    assert len(quotations()) >= QUOTED_MIN


@pytest.mark.parametrize("quotation", quotations())
def test_what_is_quoted_is_what_the_server_says(quotation: str) -> None:
    assert quotation.removeprefix(GAP).removesuffix(GAP) in SAYINGS
