"""PEP 3333, "environ Variables": what an application is told about a request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from server import Server, read_response
from wire import CLOSE, HOST, chunked, message, serving

if TYPE_CHECKING:
    from conftest import ServerFactory


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.environ:app", "-s1", "-t4") as server:
        yield server


@pytest.fixture(scope="module")
def bare_server() -> Iterator[Server]:
    with serving("apps.environ:bare", "-s1", "-t4") as server:
        yield server


def described(server: Server, raw: bytes) -> dict[str, Any]:
    response = server.request(raw)
    assert response.status == 200, response
    return dict(json.loads(response.body))


def environ_of(server: Server, raw: bytes) -> dict[str, Any]:
    return {key: entry["value"] for key, entry in described(server, raw)["values"].items()}


def environ_of_get(server: Server, target: str = "/", *fields: str) -> dict[str, Any]:
    return environ_of(server, message(f"GET {target} HTTP/1.1", HOST, *fields, CLOSE))


def test_environ_is_a_builtin_dict(bare_server: Server) -> None:
    """`This object must be a builtin Python dictionary (not a subclass, UserDict or other dictionary
    emulation)`."""
    assert described(bare_server, message("GET / HTTP/1.1", HOST, CLOSE))["type"] == "dict"


@pytest.mark.parametrize(
    "key",
    [
        *["REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING"],
        *["SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "REMOTE_ADDR", "REMOTE_PORT"],
        *["wsgi.version", "wsgi.url_scheme", "wsgi.input", "wsgi.errors"],
        *["wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once"],
    ],
)
def test_every_required_key_is_present(server: Server, key: str) -> None:
    """`The environ dictionary is required to contain these CGI environment variables`."""
    assert key in environ_of_get(server)


def test_every_cgi_variable_is_a_native_string_of_bytes(bare_server: Server) -> None:
    """`Only code points representable in ISO-8859-1 encoding`, and never `any type other than str`."""
    raw = message(
        "POST /caf%C3%A9?q=%C3 HTTP/1.1", HOST, "X-A: \xff\xe9", "Content-Length: 1", CLOSE, body=b"x"
    )
    values = described(bare_server, raw)["values"]
    variables = {key: entry for key, entry in values.items() if "." not in key}
    assert len(variables) > 10
    for key, entry in variables.items():
        assert entry["type"] == "str", key
        assert entry["value"].encode("latin-1") is not None, key


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "M-SEARCH", "get"]
)
def test_request_method_is_as_sent(server: Server, method: str) -> None:
    raw = message(f"{method} / HTTP/1.1", HOST, "Content-Length: 0", CLOSE)
    assert environ_of(server, raw)["REQUEST_METHOD"] == method


def test_request_method_of_head_is_head(server: Server) -> None:
    response = server.request(message("HEAD / HTTP/1.1", HOST, CLOSE))
    assert response.header("X-Request-Method") == "HEAD"


def test_script_name_is_empty_at_the_root(server: Server) -> None:
    """`May be an empty string, if the application corresponds to the "root" of the server`."""
    assert environ_of_get(server)["SCRIPT_NAME"] == ""


@pytest.mark.parametrize(
    ("target", "path_info"),
    [
        ("/", "/"),
        ("/plain/path", "/plain/path"),
        ("/caf%C3%A9", "/caf\xc3\xa9"),
        ("/caf%c3%a9", "/caf\xc3\xa9"),
        ("/a%2Fb", "/a/b"),
        ("/a%20b", "/a b"),
        ("/a+b", "/a+b"),
        ("/%FF%80", "/\xff\x80"),
        ("/100%", "/100%"),
        ("/%zz%4", "/%zz%4"),
        ("/%2541", "/%41"),
        ("//two//slashes", "//two//slashes"),
        ("/a/../b/./c", "/a/../b/./c"),
        ("/a;v=1,2", "/a;v=1,2"),
        ("/path%3Fnot?query", "/path?not"),
    ],
)
def test_path_info_is_percent_decoded_once(server: Server, target: str, path_info: str) -> None:
    assert environ_of_get(server, target)["PATH_INFO"] == path_info


def test_path_info_carries_utf8_through_latin1(server: Server) -> None:
    """A native string carries bytes: encoding it to ISO-8859-1 gives back what the client meant."""
    path_info = environ_of_get(server, "/%E2%98%83/%F0%9F%90%8D")["PATH_INFO"]
    assert path_info.encode("latin-1").decode("utf-8") == "/☃/🐍"


def test_path_info_is_empty_for_the_asterisk(server: Server) -> None:
    """RFC 3875 section 4.1.5: PATH_INFO is empty or begins with a slash. `*` is no path; REQUEST_URI has
    it."""
    environ = environ_of(server, message("OPTIONS * HTTP/1.1", HOST, CLOSE))
    assert (environ["PATH_INFO"], environ["REQUEST_URI"]) == ("", "*")


@pytest.mark.parametrize(
    ("target", "query_string"),
    [
        ("/", ""),
        ("/?", ""),
        ("/?a=1&b=2", "a=1&b=2"),
        ("/?a=%20%C3%A9+b", "a=%20%C3%A9+b"),
        ("/?what?now", "what?now"),
        ("/?a/b=c/d", "a/b=c/d"),
    ],
)
def test_query_string_is_the_undecoded_rest_after_the_question_mark(
    server: Server, target: str, query_string: str
) -> None:
    assert environ_of_get(server, target)["QUERY_STRING"] == query_string


@pytest.mark.parametrize("target", ["/", "/a%2Fb?q=%41", "//x?", "/%7euser", "http://localhost/absolute?q"])
def test_request_uri_and_raw_uri_are_the_target_as_sent(server: Server, target: str) -> None:
    environ = environ_of_get(server, target)
    assert environ["REQUEST_URI"] == target
    assert environ["RAW_URI"] == target


def test_content_type_and_length_are_empty_or_missing_without_a_body(server: Server) -> None:
    """`May be empty or absent`."""
    environ = environ_of_get(server)
    assert environ.get("CONTENT_TYPE", "") == ""
    assert environ.get("CONTENT_LENGTH", "") == ""


def test_content_type_and_length_are_passed_without_http_prefix(server: Server) -> None:
    fields = ["Content-Type: text/plain; charset=utf-8", "Content-Length: 3"]
    environ = environ_of(server, message("POST / HTTP/1.1", HOST, *fields, CLOSE, body=b"abc"))
    assert environ["CONTENT_TYPE"] == "text/plain; charset=utf-8"
    assert environ["CONTENT_LENGTH"] == "3"
    assert "HTTP_CONTENT_TYPE" not in environ
    assert "HTTP_CONTENT_LENGTH" not in environ


def test_an_empty_body_is_told_by_a_content_length_of_zero(server: Server) -> None:
    assert (
        environ_of(server, message("POST / HTTP/1.1", HOST, "Content-Length: 0", CLOSE))["CONTENT_LENGTH"]
        == "0"
    )


def test_a_chunked_request_is_given_its_decoded_length(server: Server) -> None:
    """The body is complete before the application is called, so nothing of the coding is left to see."""
    raw = message("POST / HTTP/1.1", HOST, "Transfer-Encoding: chunked", CLOSE, body=chunked(b"abc", b"defg"))
    environ = environ_of(server, raw)
    assert environ["CONTENT_LENGTH"] == "7"
    assert "HTTP_TRANSFER_ENCODING" not in environ


def test_input_is_terminated(server: Server) -> None:
    """`wsgi.input_terminated`: reading to the end of the input is safe whatever CONTENT_LENGTH says."""
    assert environ_of_get(server)["wsgi.input_terminated"] is True


def test_server_name_and_port_can_never_be_empty(server: Server) -> None:
    """`SERVER_NAME and SERVER_PORT are required strings and must never be empty`."""
    environ = environ_of(server, message("GET / HTTP/1.0"))
    assert environ["SERVER_NAME"] != ""
    assert environ["SERVER_PORT"] == str(server.address[1])


@pytest.mark.parametrize("protocol", ["HTTP/1.0", "HTTP/1.1"])
def test_server_protocol_is_the_version_of_the_request(server: Server, protocol: str) -> None:
    assert environ_of(server, message(f"GET / {protocol}", HOST, CLOSE))["SERVER_PROTOCOL"] == protocol


def test_remote_address_and_port_are_those_of_the_peer(server: Server) -> None:
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message("GET / HTTP/1.1", HOST, CLOSE))
        values = json.loads(read_response(stream).body)["values"]
        host, port = connection.getsockname()
    assert values["REMOTE_ADDR"]["value"] == host
    assert values["REMOTE_PORT"]["value"] == str(port)


@pytest.mark.parametrize(
    ("field", "key", "value"),
    [
        ("User-Agent: test/1", "HTTP_USER_AGENT", "test/1"),
        ("x-lower: a", "HTTP_X_LOWER", "a"),
        ("X-Empty:", "HTTP_X_EMPTY", ""),
        ("X-Space: \t a  b \t", "HTTP_X_SPACE", "a  b"),
        ("X-Latin: caf\xe9", "HTTP_X_LATIN", "caf\xe9"),
        ("X-Utf8: \xc3\xa9", "HTTP_X_UTF8", "\xc3\xa9"),
        ("X-Colon: a: b", "HTTP_X_COLON", "a: b"),
        ("X!odd~name: 1", "HTTP_X!ODD~NAME", "1"),
    ],
)
def test_header_fields_become_http_variables(server: Server, field: str, key: str, value: str) -> None:
    """`Variables corresponding to the client-supplied HTTP request headers`."""
    assert environ_of_get(server, "/", field)[key] == value


def test_host_is_passed_as_sent(server: Server) -> None:
    assert (
        environ_of(server, message("GET / HTTP/1.1", "Host: Example.ORG:8080", CLOSE))["HTTP_HOST"]
        == "Example.ORG:8080"
    )


def test_the_host_of_an_absolute_target_wins(server: Server) -> None:
    """RFC 9112 section 3.2.2: the server `MUST ignore the received Host header field`."""
    raw = message("GET http://target.example:81/a%20b?q HTTP/1.1", "Host: other.example", CLOSE)
    environ = environ_of(server, raw)
    assert environ["HTTP_HOST"] == "target.example:81"
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/a b", "q")


def test_repeated_fields_are_joined_by_commas(server: Server) -> None:
    """With a space after each, as RFC 9110 section 5.3 writes them."""
    environ = environ_of_get(server, "/", "X-Many: a", "Other: o", "x-many: b", "X-MANY: c")
    assert environ["HTTP_X_MANY"] == "a, b, c"


@pytest.mark.parametrize("path", [b"caf\xc3\xa9", b"caf\xe9", b"\x80\xff\x85"], ids=repr)
def test_a_target_may_hold_bytes_that_are_not_ascii(server: Server, path: bytes) -> None:
    """As nginx passes them on: many clients send UTF-8 that is not percent-encoded."""
    target = b"/%b?q=%b" % (path, path)
    environ = environ_of_get(server, target.decode("latin-1"))
    text = path.decode("latin-1")
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == (f"/{text}", f"q={text}")
    assert environ["REQUEST_URI"] == target.decode("latin-1")


def test_a_strict_server_refuses_them(server_factory: ServerFactory) -> None:
    server = server_factory("apps.environ:app", "-s1", "--strict")
    for path in ["caf\xc3\xa9", "caf\xe9"]:
        assert server.request(message(f"GET /{path} HTTP/1.1", HOST)).status == 400
    assert server.request(message("GET /caf%C3%A9 HTTP/1.1", HOST, CLOSE)).status == 200


@pytest.mark.parametrize("value", ["", "1", "same"])
def test_repeated_fields_are_joined_even_if_they_say_the_same(server: Server, value: str) -> None:
    """CPython has one object each for the empty text and for texts of one character."""
    environ = environ_of_get(server, "/", f"X-Many: {value}", f"X-Many: {value}", f"X-Many: {value}")
    assert environ["HTTP_X_MANY"] == f"{value}, {value}, {value}"


def test_repeated_cookies_are_joined_by_semicolons(server: Server) -> None:
    """RFC 9113 section 8.2.3 names the separator; a comma would end up inside a cookie's value."""
    assert environ_of_get(server, "/", "Cookie: a=1; b=2", "Cookie: c=3")["HTTP_COOKIE"] == "a=1; b=2; c=3"


def test_field_names_with_an_underscore_are_dropped(server: Server) -> None:
    """`X_Forwarded_For` would otherwise be taken for the `X-Forwarded-For` that a proxy vouches for."""
    environ = environ_of_get(server, "/", "X_Forwarded_For: evil", "X-Real_IP: evil", "X-Forwarded-For: good")
    assert environ["HTTP_X_FORWARDED_FOR"] == "good"
    assert "HTTP_X_REAL_IP" not in environ
    assert "evil" not in environ.values()


def test_underscores_never_spoof_content_length_or_type(server: Server) -> None:
    environ = environ_of_get(server, "/", "Content_Length: 5", "Content_Type: evil/evil")
    assert environ.get("CONTENT_LENGTH", "") == ""
    assert environ.get("CONTENT_TYPE", "") == ""


def test_operating_system_variables_never_pose_as_request_headers(server_factory: ServerFactory) -> None:
    """`The presence or absence of these variables should correspond with the presence or absence of the
    appropriate HTTP header in the request`."""
    server = server_factory(
        "apps.environ:app", "-s1", environment={"HTTP_X_INJECTED": "1", "CONTENT_LENGTH": "9"}
    )
    environ = environ_of_get(server)
    assert "HTTP_X_INJECTED" not in environ
    assert environ.get("CONTENT_LENGTH", "") == ""


def test_wsgi_version_is_the_tuple_1_0(server: Server) -> None:
    """`The tuple (1, 0), representing WSGI version 1.0`."""
    entry = described(server, message("GET / HTTP/1.1", HOST, CLOSE))["values"]["wsgi.version"]
    assert (entry["type"], entry["value"]) == ("tuple", [1, 0])


def test_wsgi_url_scheme_is_http(server: Server) -> None:
    assert environ_of_get(server)["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize(
    ("key", "methods"),
    [
        ("wsgi.input", {"read", "readline", "readlines", "__iter__"}),
        ("wsgi.errors", {"write", "writelines", "flush"}),
        ("wsgi.file_wrapper", {"__call__"}),
    ],
)
def test_the_streams_have_the_required_methods(bare_server: Server, key: str, methods: set[str]) -> None:
    """`The input and error streams provided by the server must support the following methods`."""
    entry = described(bare_server, message("GET / HTTP/1.1", HOST, CLOSE))["values"][key]
    assert methods <= set(entry["methods"])


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("threads", [1, 2])
def test_multithread_and_multiprocess_are_true_to_the_options(
    server_factory: ServerFactory, processes: int, threads: int
) -> None:
    """`This value should evaluate true if the application object may be simultaneously invoked by another
    thread in the same process`, or, for the other, `by another process`."""
    environ = environ_of_get(server_factory("apps.environ:app", f"-s{processes}", f"-t{threads}"))
    assert environ["wsgi.multithread"] is (threads > 1)
    assert environ["wsgi.multiprocess"] is (processes > 1)
    assert environ["wsgi.run_once"] is False


def test_what_an_application_does_to_its_environ_is_never_seen_by_the_next_request(server: Server) -> None:
    """`The application is allowed to modify the dictionary in any way it desires`."""
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message("GET /one?a=1 HTTP/1.1", HOST, "X-Only-First: 1", "Cookie: secret=1"))
        first = json.loads(read_response(stream).body)["values"]
        connection.sendall(message("GET /two HTTP/1.1", HOST, CLOSE))
        second = json.loads(read_response(stream).body)["values"]
    assert first["HTTP_X_ONLY_FIRST"]["value"] == "1"
    assert second["PATH_INFO"]["value"] == "/two"
    assert second["QUERY_STRING"]["value"] == ""
    assert {"HTTP_X_ONLY_FIRST", "HTTP_COOKIE", "LEAKED"}.isdisjoint(second)
    assert second["wsgi.version"]["value"] == [1, 0]
