"""A panic in Rust while a request is answered costs that request, and neither its thread nor its worker."""

from __future__ import annotations

import pytest

from conftest import ServerFactory
from http_client import Truncated
from server import Server
from test_process_life import workers


@pytest.fixture
def server(server_factory: ServerFactory) -> Server:
    """One thread: if it were gone, nobody would answer."""
    server = server_factory("apps.panics:app", "-l/dev/null", "-s1", "-t1", "--queue-timeout=600")
    assert server.get("/error").status == 500
    return server


@pytest.mark.parametrize("where", ["call", "started", "first"])
def test_a_panic_before_the_response_is_answered_500(server: Server, where: str) -> None:
    for _ in range(3):
        assert server.get(f"/{where}").status == 500
        assert server.get("/thread").body == b"app-0"


def test_a_panic_within_the_response_cuts_it_off(server: Server) -> None:
    with pytest.raises(Truncated):
        server.get("/second")
    assert server.get("/thread").body == b"app-0"


def test_a_panic_after_the_response_costs_nothing(server: Server) -> None:
    assert server.get("/close").body == b"begun\n"
    assert server.get("/thread").body == b"app-0"


def test_the_panic_is_logged_with_its_request(server: Server) -> None:
    server.get("/call?secret=1")
    server.wait_for_log(
        r'message="the server panicked.*please report this.*GET /call\?secret=1.*subtract with overflow'
    )
    assert server.get("/thread").body == b"app-0"


def test_neither_does_a_panic_end_a_main_thread(server_factory: ServerFactory) -> None:
    server = server_factory(
        "apps.panics:app", "-l/dev/null", "-s1", "-t1", "--main-thread", "--queue-timeout=600"
    )
    first = workers(server, 1)
    assert server.get("/error").status == 500
    assert server.get("/call").status == 500
    assert server.get("/thread").body == b"MainThread"
    assert workers(server, 1) == first
