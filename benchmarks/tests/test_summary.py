"""Rows are medians over the rounds, and ratios are taken within a round."""

from __future__ import annotations

import pytest

from ..load import Outcome
from ..measure import Run
from ..summary import summarise


def run(number: int, server: str, requests: int, errors: int = 0, fault: str | None = None) -> Run:
    """Return a run of one second."""
    outcome = Outcome(requests, 1.0, 500.0, 900.0, None, {"read": errors})
    return Run(number, "hello", server, 1, 1, {"": outcome}, cpu_us_per_request=requests / 10, fault=fault)


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """A machine that halves its speed for a round changes rates but not ratios."""
    runs = [
        run(0, "a", 100),
        run(0, "b", 200),
        run(1, "a", 50),
        run(1, "b", 100),
        run(2, "a", 90),
        run(2, "b", 180),
    ]
    first, second = summarise(runs, reference="a")
    assert (first.requests_per_s, first.ratio) == (90, 1)
    assert (second.requests_per_s, second.ratio) == (180, 2)
    assert second.spread == pytest.approx(100 / 180)
    assert second.cpu_us_per_request == 18


def test_errors_of_all_rounds_are_counted() -> None:
    """One bad round is not lost in a median."""
    (row,) = summarise(
        [run(0, "a", 100), run(1, "a", 100, errors=3), run(2, "a", 100, errors=4)], reference="a"
    )
    assert row.errors == 7


def test_a_run_with_a_fault_gives_no_numbers_but_keeps_its_row() -> None:
    """A server that fails must not vanish from the table."""
    failed, fine = summarise([run(0, "a", 100, fault="did not start"), run(0, "b", 100)], reference="a")
    assert (failed.requests_per_s, failed.rounds, failed.fault) == (None, 0, "did not start")
    assert (fine.requests_per_s, fine.ratio) == (100, None)
