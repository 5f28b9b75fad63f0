"""What the run has to tell is printed at its end; the logs of the servers only where something failed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

_told: list[str] = []


@pytest.fixture
def tell() -> Callable[[str], None]:
    """Adds a line to what is told in the end."""
    return _told.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines, below pytest's own."""
    terminalreporter.section("real applications")
    for line in _told:
        terminalreporter.write_line(line)
