"""Waits become a row, and rows a table."""

from __future__ import annotations

from ..convoy import HOLDS_MS, row, table


def test_a_row_tells_of_the_middle_of_the_slow_ones_and_of_the_slowest() -> None:
    """Two of a hundred make the 99th percentile, one does not."""
    waits_ms = [1.0] * 97 + [200.0, 3.0, 100.0]
    measured = row("a", 0.05, waits_ms, 0.9)
    assert (measured.p50_ms, measured.p99_ms, measured.max_ms) == (1, 200, 200)
    assert row("a", 0.05, [*waits_ms, *[1.0] * 100], 0.9).p99_ms == 100


def test_a_single_wait_is_all_there_is_to_tell() -> None:
    """A server that answers nobody until the long view has ended is asked once."""
    measured = row("a", 5, [4702.0], 1.0)
    assert measured.p50_ms == measured.p99_ms == measured.max_ms == 4702


def test_the_table_has_a_line_a_server_and_a_column_a_hold() -> None:
    """In the order in which they were measured."""
    rows = [row(server, hold_ms, [hold_ms * 1000], 0.875) for server in ("b", "a") for hold_ms in HOLDS_MS]
    lines = [line for line in table(rows, 8).splitlines() if line.startswith("|")]
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| b", "| a"]
    assert all(line.count("|") == len(HOLDS_MS) + 2 for line in lines)
    assert "| 5,000 / 5,000 / 5,000, 88% |" in lines[2]
