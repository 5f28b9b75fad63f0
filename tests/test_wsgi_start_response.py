"""PEP 3333, "The start_response() Callable": how a response begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.util import is_hop_by_hop

import pytest

from server import Response, Server, read_response
from wire import CLOSE, HOST, message, serving, truncated

if TYPE_CHECKING:
    from conftest import ServerFactory


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.start_response:app", "-s1", "-t4") as server:
        yield server


def started_with(server: Server, *arguments: object) -> Response:
    """The response to an application that calls `start_response(*arguments)`."""
    body = repr(arguments).encode()
    raw = message("POST /given HTTP/1.1", HOST, f"Content-Length: {len(body)}", CLOSE, body=body)
    return server.request(raw)


def refused(server: Server, response: Response, error: str) -> bool:
    """Whether the application's fault became a 500 that tells the client nothing, and the log everything."""
    server.wait_for_log(error)
    return response.status == 500 and b"Traceback" not in response.body and b"given" not in response.body


def test_status_and_headers_reach_the_client_as_given(server: Server) -> None:
    fields = [
        ("Content-Type", "text/x-any"),
        ("X-Mixed-CASE", "a"),
        ("Set-Cookie", "b=1"),
        ("Set-Cookie", "c=2"),
    ]
    response = started_with(server, "200 Very fine", fields)
    assert (response.status, response.reason, response.body) == (200, "Very fine", b"given")
    assert [field for field in response.headers if field in fields] == fields


@pytest.mark.parametrize(
    "status", ["200 OK", "299 Any", "404 Not Found", "418 I'm a teapot", "599 Odd", "404 Pas trouv\xe9"]
)
def test_any_final_status_is_sent(server: Server, status: str) -> None:
    """`A status string of the form "999 Message here"`, in ISO-8859-1."""
    response = started_with(server, status, [])
    assert f"{response.status} {response.reason}" == status


def test_exc_info_may_be_none(server: Server) -> None:
    assert started_with(server, "200 OK", [], None).status == 200


def test_header_values_are_sent_as_latin1(server: Server) -> None:
    """`They must either be ISO-8859-1 characters, or use RFC 2047 MIME encoding`."""
    assert started_with(server, "200 OK", [("X-A", "caf\xe9 \xff z")]).header("X-A") == "caf\xe9 \xff z"


def test_the_server_adds_date_and_server(server: Server) -> None:
    """RFC 9110 section 6.6.1: an origin server with a clock MUST generate Date."""
    response = started_with(server, "200 OK", [])
    assert response.header("Date") is not None
    assert response.header("Server") is not None


def test_date_and_server_of_the_application_win(server: Server) -> None:
    """The server adds what `the application omits`, and no second one."""
    fields = [("Date", "Tue, 15 Nov 1994 08:12:31 GMT"), ("Server", "Mine/1")]
    response = started_with(server, "200 OK", fields)
    assert response.header_all("Date") == ["Tue, 15 Nov 1994 08:12:31 GMT"]
    assert response.header_all("Server") == ["Mine/1"]


@pytest.mark.parametrize("status", [200, None, b"200 OK", ("200", "OK")])
def test_a_status_that_is_not_a_str_is_an_error(server: Server, status: object) -> None:
    """`The status argument is an HTTP "status" string`."""
    assert refused(server, started_with(server, status, []), "TypeError")


@pytest.mark.parametrize(
    "status",
    ["", "99", "99 Low", "20 OK", "2000 Long", "abc", "OK 200", "200OK", "-200 OK", " 200 OK", "+20 OK"],
)
def test_a_malformed_status_is_an_error(server: Server, status: str) -> None:
    assert started_with(server, status, []).status == 500


@pytest.mark.parametrize("status", ["100 Continue", "101 Switching Protocols", "103 Early Hints"])
def test_an_interim_status_is_an_error(server: Server, status: str) -> None:
    """An interim response is no response: the client would wait for another (RFC 9110 section 15.2)."""
    assert started_with(server, status, []).status == 500


@pytest.mark.parametrize(
    "status", ["200 OK\r\nX-Evil: 1", "200 O\nK", "200 O\rK", "200 O\0K", "200 \N{SNOWMAN}"]
)
def test_a_status_cannot_inject(server: Server, status: str) -> None:
    """`The string must not contain control characters`, nor what ISO-8859-1 lacks."""
    response = started_with(server, status, [])
    assert response.status == 500
    assert response.header("X-Evil") is None


@pytest.mark.parametrize(
    "headers",
    [
        None,
        (("X-A", "b"),),
        {"X-A": "b"},
        "X-A: b",
        [["X-A", "b"]],
        ["X-A"],
        [("X-A",)],
        [("X-A", "b", "c")],
        [None],
    ],
    ids=repr,
)
def test_headers_that_are_not_a_list_of_pairs_are_an_error(server: Server, headers: object) -> None:
    """`A list of (header_name, header_value) tuples. It must be a Python list`."""
    assert refused(server, started_with(server, "200 OK", headers), "TypeError|ValueError")


@pytest.mark.parametrize(
    "field", [(b"X-A", "b"), ("X-A", b"b"), ("X-A", 1), ("X-A", None), (1, "b"), (None, "b")]
)
def test_a_header_that_is_not_str_is_an_error(server: Server, field: object) -> None:
    """`All objects referred to in this specification as "strings" must be of type str`."""
    assert refused(server, started_with(server, "200 OK", [field]), "TypeError")


@pytest.mark.parametrize(
    "value",
    [
        "a\r\nX-Evil: 1",
        "a\nX-Evil: 1",
        "a\rX-Evil: 1",
        "a\n",
        "a\r\n",
        "a\0b",
        "a\x7fb",
        "a\x1bb",
        "\N{SNOWMAN}",
    ],
    ids=ascii,
)
def test_a_header_value_cannot_inject(server: Server, value: str) -> None:
    """`Each header_value must not include any control characters`."""
    response = started_with(server, "200 OK", [("X-A", value)])
    assert response.status == 500
    assert (response.header("X-Evil"), response.header("X-A")) == (None, None)


@pytest.mark.parametrize(
    "name",
    ["", " ", "X A", "X-A:", "X-A\r\nX-Evil", "X\nA", "X\0A", "X(A)", "caf\xe9", "\N{SNOWMAN}"],
    ids=ascii,
)
def test_a_header_name_is_a_token(server: Server, name: str) -> None:
    """`Each header_name must be a valid HTTP header field-name`."""
    response = started_with(server, "200 OK", [(name, "1")])
    assert response.status == 500
    assert response.header("X-Evil") is None


HOP_BY_HOP = [
    *[
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "TE",
        "Trailers",
        "Transfer-Encoding",
        "Upgrade",
    ],
    *["transfer-encoding", "UPGRADE"],
]


@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_hop_by_hop_headers_are_dropped_with_a_warning(server: Server, name: str) -> None:
    """`Applications and middleware are forbidden from using HTTP/1.1 "hop-by-hop" features or headers`:
    views that proxy set them nevertheless, and other servers drop them."""
    assert is_hop_by_hop(name)
    for _ in range(2):
        response = started_with(server, "200 OK", [("X-Kept", "1"), (name, "chunked"), ("X-Too", "2")])
        assert (response.status, response.body) == (200, b"given")
        assert response.header(name) is None
        assert (response.header("X-Kept"), response.header("X-Too")) == ("1", "2")
    server.wait_for_log(f'dropped .*application="?apps.start_response:app"? field="?(?i:{name})')
    lines = [line for line in server.stderr_text().splitlines() if "dropped a response field" in line]
    assert sum(f"field={name.lower()}" in line.replace('"', "").lower() for line in lines) == 1


@pytest.mark.parametrize("value", ["upgrade", "keep-alive, upgrade", "Keep-Alive", ""])
def test_connection_options_of_the_server_are_dropped(server: Server, value: str) -> None:
    body = repr(("200 OK", [("Connection", value)])).encode()
    raw = message("POST /given HTTP/1.1", HOST, f"Content-Length: {len(body)}", body=body)
    with server.connect() as connection, connection.makefile("rb") as stream:
        for _ in range(2):
            connection.sendall(raw)
            response = read_response(stream)
            assert (response.status, response.header("Connection")) == (200, None)


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close", "close,Upgrade"])
def test_connection_close_is_obeyed_among_others(server: Server, value: str) -> None:
    body = repr(("200 OK", [("Connection", value)])).encode()
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message("POST /given HTTP/1.1", HOST, f"Content-Length: {len(body)}", body=body))
        response = read_response(stream)
        assert (response.status, response.header_all("Connection")) == (200, ["close"])
        assert stream.read() == b""


def test_a_strict_server_refuses_hop_by_hop_headers(server_factory: ServerFactory) -> None:
    server = server_factory("apps.start_response:app", "-s1", "--strict")
    for name, value in [*((name, "chunked") for name in HOP_BY_HOP), ("Connection", "keep-alive")]:
        response = started_with(server, "200 OK", [(name, value)])
        assert (response.status, response.body != b"given") == (500, True), name
    assert started_with(server, "200 OK", [("Connection", "close")]).status == 200


def test_connection_close_of_an_application_is_honoured(server: Server) -> None:
    """Forbidden by the PEP, sent by real applications, and its meaning is beyond doubt."""
    body = repr(("200 OK", [("Connection", "close")])).encode()
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message("POST /given HTTP/1.1", HOST, f"Content-Length: {len(body)}", body=body))
        response = read_response(stream)
        assert (response.status, response.header_all("Connection")) == (200, ["close"])
        assert stream.read() == b""


@pytest.mark.parametrize(
    "lengths",
    [["abc"], ["-1"], ["+5"], ["5.0"], ["0x5"], [""], ["5, 5"], ["5", "6"], ["18446744073709551616"]],
    ids=repr,
)
def test_a_malformed_content_length_is_an_error(server: Server, lengths: list[str]) -> None:
    assert started_with(server, "200 OK", [("Content-Length", length) for length in lengths]).status == 500


def test_start_response_never_called_is_an_error(server: Server) -> None:
    """`The application must invoke the start_response() callable before the iterable yields its first body
    bytestring`."""
    assert server.get("/never").status == 500
    assert server.get("/never_and_empty").status == 500
    assert server.get("/after_a_body").status == 500
    server.wait_for_log("start_response")


def test_start_response_called_twice_without_exc_info_is_an_error(server: Server) -> None:
    """`It is a fatal error to call start_response without the exc_info argument if start_response has already
    been called`."""
    response = server.get("/twice")
    assert response.status == 500
    assert b"twice" not in response.body
    server.wait_for_log(r"in twice\b[\s\S]*Error")


def test_a_call_that_failed_counts_as_a_call(server: Server) -> None:
    """`This includes the case where the first call to start_response raised an error`."""
    assert server.get("/again_after_an_error").status == 500
    assert server.get("/again_after_an_error_with_exc_info").status == 503


def test_exc_info_is_not_kept(server: Server) -> None:
    """`Should ensure that no reference is held to the exc_info parameter beyond the duration of the
    function's execution`: it would keep every frame of the traceback alive."""
    assert server.get("/exc_info_released").body == b"released"


def test_exc_info_replaces_a_head_that_is_not_out(server: Server) -> None:
    """`If exc_info is supplied, and no HTTP headers have been output yet, start_response should replace the
    currently-stored HTTP response headers`."""
    response = server.get("/replaced")
    assert (response.status, response.reason, response.body) == (503, "Busy", b"replaced")
    assert (response.header("X-First"), response.header("X-Second")) == (None, "yes")


def test_the_head_is_not_sent_before_the_first_non_empty_bytestring(server: Server) -> None:
    """`Only after the first iteration of the application return value that yields a non-empty bytestring`."""
    response = server.get("/replaced_after_empty_strings")
    assert (response.status, response.body) == (503, b"replaced")


def test_exc_info_is_raised_again_when_the_head_is_out(server: Server) -> None:
    """`If exc_info is provided, and the HTTP headers have already been sent, start_response must raise an
    error, and should re-raise using the exc_info tuple`."""
    response = truncated(server, "/too_late?token-too-late")
    assert (response.status, response.body) == (200, b"already sent")
    server.wait_for_log("raised again token-too-late True")
    server.wait_for_log("ValueError: token-too-late")


@pytest.mark.parametrize(
    ("path", "body"), [("/written", b"one two three four"), ("/written_only", b"written")]
)
def test_write_sends_before_the_iterable(server: Server, path: str, body: bytes) -> None:
    """`The start_response callable must return a write(body_data) callable`."""
    response = server.get(path)
    assert (response.status, response.body) == (200, body)


def test_write_has_sent_its_data_when_it_returns(server: Server, tmp_path: Path) -> None:
    """`Before write() returns, it must guarantee that the passed-in bytestring was either completely sent to
    the client, or that it is buffered for transmission while the application proceeds onward`."""
    gate = tmp_path / "gate"
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message(f"GET /written_and_held?{gate} HTTP/1.0"))
        while stream.readline() != b"\r\n":
            pass
        assert stream.read(len(b"first")) == b"first"
        gate.touch()
        assert stream.read() == b"second"


def test_write_takes_bytes_only(server: Server) -> None:
    assert refused(server, server.get("/written_str"), "TypeError")


def test_a_generator_may_start_the_response_at_its_first_iteration(server: Server) -> None:
    """`This invocation may be performed by the iterable's first iteration, so servers must not assume that
    start_response() has been called before they begin iterating over the iterable`."""
    response = server.get("/by_generator")
    assert (response.status, response.reason, response.body) == (202, "Later", b"by generator")
    assert response.header("X-Generator") == "yes"


def test_empty_bytestrings_may_come_before_start_response(server: Server) -> None:
    """Only the `first body bytestring` needs a started response, and an empty one is none."""
    response = server.get("/after_an_empty_string")
    assert (response.status, response.body) == (202, b"after an empty string")


def test_the_header_list_is_taken_when_it_is_given(server: Server) -> None:
    """What an application does to its list after the call changes nothing."""
    response = server.get("/headers_changed_later")
    assert (response.header("X-Kept"), response.header("X-Added-Later")) == ("1", None)


def test_the_server_lives_on_after_every_fault(server: Server) -> None:
    """One worker serves this module: a fault that had killed it would stand in the log."""
    assert started_with(server, "200 OK", []).status == 200
    assert "panicked" not in server.stderr_text()
