"""PEP 3333 on the end of a response: close(), Content-Length kept or broken, and errors of the
application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server import Server, read_response
from wire import CLOSE, HOST, logged_once, message, read_to_end, serving, truncated


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.iterables:app", "-s1", "-t4") as server:
        yield server


def test_close_is_called_once_after_a_normal_end(server: Server) -> None:
    """`The server or gateway must call that method upon completion of the current request`."""
    assert server.get("/closing?token-normal").body == b"some body"
    assert logged_once(server, "closed token-normal")


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 Empty"), ("GET", "304 Same")]
)
def test_close_is_called_when_the_body_is_discarded(server: Server, method: str, status: str) -> None:
    token = f"token-{method}-{status[:3]}"
    server.request(message(f"{method} /closing?{token} HTTP/1.1", HOST, f"X-Status: {status}", CLOSE))
    assert logged_once(server, f"closed {token}")


def test_close_is_called_when_the_client_disconnects(server: Server) -> None:
    """`Or terminated early due to an application error during iteration or an early disconnect of the
    browser`."""
    with server.connect() as connection:
        connection.sendall(message("GET /closing_endless?token-disconnect HTTP/1.1", HOST))
        assert connection.recv(1000) != b""
    assert logged_once(server, "closed token-disconnect")


@pytest.mark.parametrize(
    "path", ["closing_never_started", "closing_not_bytes", "closing_fails_at_once", "iter_fails"]
)
def test_close_is_called_when_there_is_no_response(server: Server, path: str) -> None:
    assert server.get(f"/{path}?token-{path}").status == 500
    assert logged_once(server, f"closed token-{path}")


@pytest.mark.parametrize("path", ["closing_fails_later", "closing_fails_within_its_length"])
def test_close_is_called_after_an_error_in_the_middle(server: Server, path: str) -> None:
    truncated(server, f"/{path}?token-{path}")
    assert logged_once(server, f"closed token-{path}")


def test_an_error_in_close_is_logged_and_hurts_nobody(server: Server) -> None:
    assert server.get("/close_fails?token-close-fails").body == b"complete"
    assert logged_once(server, "ValueError: token-close-fails")
    assert logged_once(server, "closed token-close-fails")


def test_the_response_is_complete_before_close_is_called(server: Server, tmp_path: Path) -> None:
    """A slow close() is no business of the client's."""
    gate = tmp_path / "gate"
    assert server.get(f"/closing_when_released?{gate}").body == b"body"
    gate.touch()


@pytest.mark.parametrize("way", ["list", "write", "generator"])
def test_a_body_longer_than_its_content_length_is_cut(server: Server, way: str) -> None:
    """`Should not transmit more bytes to the client than the header allows`."""
    with server.connect() as connection:
        connection.sendall(message(f"GET /promised?7,{way},token-cut-{way} HTTP/1.1", HOST, CLOSE))
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    assert b"content-length: 7" in head.lower()
    assert body == b"0123456"


def test_iteration_stops_when_enough_has_been_sent(server: Server) -> None:
    """`Should stop iterating over the response when enough data has been sent`."""
    assert server.get("/promised?7,generator,token-stop").body == b"0123456"
    assert logged_once(server, "closed token-stop")
    assert "produced token-stop 56789" in server.stderr_text()
    assert "produced token-stop fghij" not in server.stderr_text()


@pytest.mark.parametrize("way", ["list", "write", "generator"])
def test_a_body_shorter_than_its_content_length_closes_the_connection(server: Server, way: str) -> None:
    """`If the application does not provide enough data to meet its stated Content-Length, the server should
    close the connection and log or otherwise report the error`."""
    with server.connect() as connection:
        connection.sendall(message(f"GET /promised?99,{way},token-short-{way} HTTP/1.1", HOST))
        _, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    assert body == (b"0123456789abcdefghij" if way == "generator" else b"0123456789")


def test_a_broken_content_length_is_reported(server: Server) -> None:
    truncated(server, "/promised?98,list,token-report")
    server.wait_for_log(r"(?i)content-length.*98|98.*content-length")


def test_a_head_response_has_the_fields_of_get_and_no_body(server: Server) -> None:
    """RFC 9110 section 9.3.2: the same fields as for GET, apart from those known only by generating
    content."""
    with server.connect() as connection:
        connection.sendall(message("HEAD /kind?list-of-one HTTP/1.1", HOST, CLOSE))
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    assert b"content-length: 8" in head.lower()
    assert body == b""


@pytest.mark.parametrize(
    "path", ["/kind?list-of-one", "/kind?generator", "/promised?10,list,x", "/promised?10,write,x"]
)
def test_a_connection_survives_head(server: Server, path: str) -> None:
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message(f"HEAD {path} HTTP/1.1", HOST))
        assert read_response(stream, head=True).status == 200
        connection.sendall(message("GET /kind?list-of-one HTTP/1.1", HOST, CLOSE))
        assert read_response(stream).body == b"only one"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_status_without_content_has_neither_body_nor_framing(server: Server, status: str) -> None:
    """RFC 9112 section 6.3: such a response ends with its head, whatever the application yields."""
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message("GET /closing?token-none HTTP/1.1", HOST, f"X-Status: {status}"))
        response = read_response(stream)
        assert f"{response.status} {response.reason}" == status
        assert response.header("Transfer-Encoding") is None
        if response.status == 204:
            assert response.header("Content-Length") is None
        connection.sendall(message("GET /kind?list-of-one HTTP/1.1", HOST, CLOSE))
        assert read_response(stream).body == b"only one"


@pytest.mark.parametrize("when", ["early", "started"])
@pytest.mark.parametrize(
    "name",
    ["ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "BaseException"],
)
def test_an_exception_before_the_head_is_a_500_with_one_traceback(
    server: Server, name: str, when: str
) -> None:
    """`Servers should trap and log any exception that aborts an application`. Even SystemExit ends one
    request."""
    token = f"token-{name}-{when}"
    response = server.get(f"/raises?{name},{when},{token}")
    assert response.status == 500
    assert response.header("X-Replaced") is None
    assert token.encode() not in response.body
    assert logged_once(server, f"{name}: {token}")


def test_an_exception_in_the_iteration_before_the_head_is_a_500(server: Server) -> None:
    assert server.get("/closing_fails_at_once?token-at-once").status == 500
    assert logged_once(server, "ValueError: token-at-once")


@pytest.mark.parametrize("path", ["closing_fails_later", "closing_fails_within_its_length"])
def test_an_exception_after_the_head_cuts_the_connection(server: Server, path: str) -> None:
    """Ended like a complete one, the response would be believed, and cached."""
    response = truncated(server, f"/{path}?token-cut-{path}")
    assert (response.status, response.body) == (200, b"partial")
    assert logged_once(server, f"ValueError: token-cut-{path}")


def test_the_traceback_shows_the_line_of_the_application(server: Server) -> None:
    server.get("/raises?ValueError,early,token-where")
    match = server.wait_for_log(r"Traceback \(most recent call last\):\n(?:  .*\n)+ValueError: token-where")
    assert "in raises" in match[0]


def test_one_worker_has_survived_every_error(server: Server) -> None:
    """Nothing that an application raises ends its process."""
    before = server.processes()
    for name in ("SystemExit", "KeyboardInterrupt", "BaseException"):
        assert server.get(f"/raises?{name},early,token-survive").status == 500
    assert server.get("/kind?list-of-one").status == 200
    assert server.processes() == before
