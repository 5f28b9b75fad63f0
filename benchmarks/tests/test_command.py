"""The command line and the order of runs."""

from __future__ import annotations

import pytest

from ..__main__ import parse, seconds_that_fit, workloads_of
from ..measure import Plan
from ..servers import server_named


@pytest.mark.parametrize(
    "arguments",
    [
        ["goodbye"],
        ["hello", "--peers", "nginx"],
        ["hello", "--rounds", "0"],
        ["hello", "--seconds", "61"],
        ["hello", "--connections", "many"],
        ["hello", "--server-cores", "99999"],
    ],
)
def test_what_cannot_be_done_is_refused(arguments: list[str]) -> None:
    """Before anything is installed or started."""
    with pytest.raises(SystemExit, match="2"):
        parse(arguments)


def test_peers_are_a_list() -> None:
    """And `none` is an empty one."""
    assert parse(["hello", "--peers", "granian,bjoern"]).peers == ("granian", "bjoern")
    assert parse(["hello", "--peers", "none"]).peers == ()


def test_servers_change_places_from_round_to_round() -> None:
    """What follows a heavy run must not always be the same server."""
    servers = [server_named("granian"), server_named("bjoern")]
    (workload,) = workloads_of("hello")
    plan = Plan(servers, [workload], 3, 1, (0,), (1,), ceiling=True)
    turns = [server for number in range(plan.rounds) for server in plan.turns(workload, number)]
    names = [server.name if server else "loop" for server in turns]
    assert plan.run_count() == len(names)
    assert names == ["granian", "bjoern", "loop", "bjoern", "loop", "granian", "loop", "granian", "bjoern"]


def test_a_suite_fits_in_its_time() -> None:
    """The seconds of load shrink with the number of runs, down to one, and never grow past three."""
    assert seconds_that_fit(600, 400) == 1
    assert seconds_that_fit(600, 200) == 2
    assert seconds_that_fit(600, 10) == 3
    assert seconds_that_fit(60, 1000) == 1
