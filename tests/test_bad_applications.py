"""A bad application costs a response, or at worst a worker that is replaced, and never more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from apps.bad import BODIES, ENDINGS, HEADS
from server import Server, Truncated
from test_process_life import eventually
from wire import serving

if TYPE_CHECKING:
    from conftest import ServerFactory


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.bad:app", "-s1", "-t2", "--strict") as server:
        yield server


def serves_on(server: Server, before: bytes) -> bool:
    """Whether the same process still answers, with each of its threads."""
    return all(server.get("/good").body == before for _ in range(4))


@pytest.mark.parametrize("path", [*HEADS, *BODIES])
def test_a_response_that_is_none_is_a_500(server: Server, path: str) -> None:
    before = server.get("/good").body
    response = server.get(f"/{path}")
    assert response.status == 500
    assert response.header("X-Injected") is None
    assert serves_on(server, before)


@pytest.mark.parametrize("what", ENDINGS)
@pytest.mark.parametrize("where", ["call", "iter", "next"])
def test_an_exception_of_any_kind_is_a_500(server: Server, where: str, what: str) -> None:
    """SystemExit and KeyboardInterrupt, too: they are the application's and end nothing but its response."""
    before = server.get("/good").body
    response = server.get(f"/raises?{where}:{what}")
    # A body that raises StopIteration has ended: that is how iteration ends.
    assert response.status == (200 if (where, what) == ("next", "stop_iteration") else 500)
    assert serves_on(server, before)


@pytest.mark.parametrize("what", ENDINGS)
def test_an_exception_in_close_comes_after_the_response(server: Server, what: str) -> None:
    before = server.get("/good").body
    assert server.get(f"/raises?close:{what}").body == b"body"
    assert serves_on(server, before)


def test_a_write_that_comes_too_late_goes_nowhere(server: Server) -> None:
    before = server.get("/good").body
    for _ in range(5):
        assert server.get("/start_response_later").body == b"body"
    assert serves_on(server, before)


def test_every_exception_is_in_the_log(server: Server) -> None:
    server.get("/raises?call:exit")
    server.wait_for_log("SystemExit: 3")
    server.get("/raises?call:unspeakable")
    server.wait_for_log("BadTraceback")


@pytest.mark.parametrize("path", ["segfault", "quit_at_once", "abort", "kill_itself"])
def test_a_process_that_ends_is_replaced(server_factory: ServerFactory, path: str) -> None:
    """Whoever was with it loses its connection; its sibling keeps serving, and soon there are two again."""
    server = server_factory("apps.bad:app", "-s2", "-t2")
    supervisor_and_workers = len(server.processes())
    with pytest.raises((Truncated, ConnectionResetError)):
        server.get(f"/{path}")
    server.wait_for_log("a worker died")
    assert [server.get("/good").status for _ in range(5)] == [200] * 5
    assert eventually(lambda: len(server.processes()) == supervisor_and_workers)
    server.stop()
