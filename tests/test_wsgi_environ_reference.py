"""PEP 3333, "environ Variables": a request in order gives the environ that the standard library would.

`wsgiref.simple_server`, which reads header fields with `email`, is the oracle. Where the server differs on
purpose, the difference is spelt out in `expected`.
"""

from __future__ import annotations

import io
import json
import string
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server import Server
from wire import message, serving

TOKEN = "!#$%&'*+-.^`|~" + string.digits + string.ascii_letters
#: VCHAR, `obs-text` and white space (RFC 9110 section 5.5), but for two bytes that are white space in
#: Latin-1: the oracle takes them from the ends of a value, where a smuggler might have put them.
VALUE = "".join(
    chr(code) for code in [9, *range(0x20, 0x7F), *range(0x80, 0x100)] if code not in (0x85, 0xA0)
)
PATH = string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@"
#: Those that decide on more than environ, and `Proxy`, which is dropped.
NOT_GENERATED = {"connection", "content-length", "expect", "host", "proxy", "transfer-encoding"}
#: What the oracle cannot know: it is not the server.
OF_THE_SERVER = {"SERVER_NAME", "SERVER_PORT", "SERVER_SOFTWARE", "REMOTE_ADDR", "REMOTE_PORT", "REMOTE_HOST"}
#: Beyond the CGI variables of PEP 3333; the oracle has none of them.
EXTRAS = {"REQUEST_URI", "RAW_URI"}

methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "M-SEARCH", "patch"])
segments = st.one_of(
    st.text(PATH, max_size=8),
    st.binary(max_size=4).map(lambda raw: "".join(f"%{byte:02X}" for byte in raw)),
    st.sampled_from(["..", ".", "%2F", "%zz", "%", "%e4%f6", "%E2%82%AC"]),
)
paths = st.lists(segments, max_size=4).map(lambda parts: "/" + "/".join(parts))
queries = st.none() | st.text(PATH + '/?%"<>[]{}|\\^`', max_size=20)
names = st.one_of(
    st.text(TOKEN, min_size=1, max_size=12),
    st.sampled_from(
        ["Cookie", "X-Forwarded-Thing", "content-type", "ACCEPT", "If-None-Match", "X_Under_Score"]
    ),
).filter(lambda name: name.lower() not in NOT_GENERATED)
values = st.text(VALUE, max_size=20)
#: The oracle believes the first Content-Type; the server shows the application all.
fields = st.lists(st.tuples(names, values), max_size=8).filter(
    lambda sent: [name.lower() for name, _ in sent].count("content-type") < 2
)
versions = st.sampled_from(["HTTP/1.1", "HTTP/1.0"])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.environ:bare", "-s1", "-t1", "--access-log-file=/dev/null") as server:
        yield server


class Oracle(WSGIRequestHandler):
    """Reads one request from memory."""

    def __init__(self, request: bytes, target: str) -> None:
        self.rfile = io.BytesIO(request)
        self.client_address = ("127.0.0.1", 1)
        self.server = WSGIServer(("127.0.0.1", 0), WSGIRequestHandler, bind_and_activate=False)
        self.server.base_environ = {"SCRIPT_NAME": ""}
        self.raw_requestline = self.rfile.readline()
        assert self.parse_request()
        # Against redirects to other hosts it makes one slash of several at the front.
        self.path = target
        self.server.server_close()

    def address_string(self) -> str:
        return self.client_address[0]


def expected(line: str, target: str, sent: list[tuple[str, str]]) -> dict[str, Any]:
    """What the oracle says of a request, but for the differences that are meant."""
    # CVE-2015-0219: a name with an underscore could pass for another.
    sent = [(name, value) for name, value in sent if "_" not in name]
    request = message(line, *(f"{name}: {value}" for name, value in sent))
    environ = Oracle(request, target).get_environ()
    given = [name.lower() for name, _ in sent]
    if "content-type" not in given:
        # What a request does not say is not in environ.
        environ.pop("CONTENT_TYPE")
    for name in {name for name in given if given.count(name) > 1}:
        # RFC 9110 section 5.3 recommends a comma and a space; the oracle writes the comma alone.
        values = [value.strip(" \t") for other, value in sent if other.lower() == name]
        environ["HTTP_" + name.upper().replace("-", "_")] = ", ".join(values)
    if "cookie" in given:
        # RFC 6265 section 5.4; the oracle joins them like any list.
        cookies = [value.strip(" \t") for name, value in sent if name.lower() == "cookie"]
        environ["HTTP_COOKIE"] = "; ".join(cookies)
    return {key: value for key, value in environ.items() if key not in OF_THE_SERVER}


@settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=400,
    # The machine may have more to do.
    suppress_health_check=[HealthCheck.too_slow],
)
@given(methods, paths, queries, versions, fields)
def test_environ_equals_that_of_the_standard_library(
    server: Server, method: str, path: str, query: str | None, version: str, sent: list[tuple[str, str]]
) -> None:
    target = path if query is None else f"{path}?{query}"
    line = f"{method} {target} {version}"
    sent = [("Host", "a.example:80"), *sent, ("Connection", "close")]
    response = server.request(message(line, *(f"{name}: {value}" for name, value in sent)))
    assert response.status == 200, response
    entries = json.loads(response.body)["values"]
    environ = {key: entry["value"] for key, entry in entries.items() if not key.startswith("wsgi.")}
    known = {key: value for key, value in environ.items() if key not in OF_THE_SERVER | EXTRAS}
    assert known == expected(line, target, sent)
    assert environ["REQUEST_URI"] == target
