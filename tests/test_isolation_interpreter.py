"""Requests that compute, and those that wait for the interpreter meanwhile."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import pytest

from server import read_response
from wire import HOST, message

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import ServerFactory

#: How long the interpreter is held between two system calls, in microseconds.
HOLDS_US = (50, 100, 300, 900, 2_000)


@pytest.mark.parametrize("hold_us", HOLDS_US)
def test_a_request_that_computes_between_system_calls_starves_no_other(
    server_factory: ServerFactory, tmp_path: Path, hold_us: int
) -> None:
    server = server_factory("apps.interpreter:app", "-s1", "-t4", "-l/dev/null")
    for _ in range(50):
        assert server.get("/short").status == 200
    gate = tmp_path / "gate"
    with contextlib.ExitStack() as stack:
        streams = []
        for index in range(2):
            client = stack.enter_context(server.connect())
            streams.append(stack.enter_context(client.makefile("rb")))
            query = f"gate={gate}&us={hold_us}&name={index}"
            client.sendall(message(f"GET /computing?{query} HTTP/1.1", HOST))
        server.wait_for_log("computing")
        for _ in range(20):
            assert server.get("/short").status == 200
        gate.touch()
        assert [read_response(stream).body for stream in streams] == [b"released"] * 2


def test_a_thread_of_the_applications_own_starves_no_request(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    server = server_factory("apps.interpreter:app", "-s1", "-t1", "-l/dev/null")
    gate = tmp_path / "gate"
    assert server.get(f"/background?gate={gate}&us=500").status == 200
    for _ in range(20):
        assert server.get("/short").status == 200
    gate.touch()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="makes an invalid time of it")
def test_this_python_asks_for_its_lock_at_once(server_factory: ServerFactory) -> None:
    """Otherwise the quickest convoys are left to chance."""
    server = server_factory("apps.interpreter:app", "-s1", "-t2", "--log-level=debug")
    assert server.get("/short").status == 200
    log = server.stderr_text()
    assert "ask for its lock at once" not in log
    assert "does not show its lock" not in log


@pytest.mark.skipif(sys.version_info < (3, 11), reason="is not set by the server there")
def test_a_switch_interval_read_while_it_was_no_time_at_all_does_not_stay(
    server_factory: ServerFactory,
) -> None:
    server = server_factory("apps.interpreter:app", "-s1", "-t2", "-l/dev/null")
    with server.connect() as client, client.makefile("rb") as stream:
        client.sendall(message("GET /absurd HTTP/1.1", HOST))
        server.wait_for_log("absurd")
        for _ in range(5):
            assert server.get("/short").status == 200
        assert read_response(stream).body == b"0.001"


def test_code_that_does_not_let_the_interpreter_go_is_shown_in_the_log(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    """No server can interrupt it, but its owner should know."""
    server = server_factory("apps.interpreter:app", "-s1", "-t2", "-l/dev/null")
    for _ in range(50):
        assert server.get("/short").status == 200
    gate = tmp_path / "gate"
    with server.connect() as client, client.makefile("rb") as stream:
        client.sendall(message(f"GET /unyielding?{gate} HTTP/1.1", HOST))
        server.wait_for_log("unyielding")
        for _ in range(20):
            assert server.get("/short").status == 200
            if "held the interpreter" in server.stderr_text():
                break
        gate.touch()
        assert read_response(stream).body == b"released"
    assert "in unyielding" in server.stderr_text()
