"""Real proxies in front, whose connections to the server carry the requests of many clients: what is one
request for a proxy is never two for the server, nor the other way, and each client gets its own answer.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from differential.fooled import fooled
from differential.proxies import KINDS, Kind, Proxy
from differential.streams import AMBIGUOUS, PIPELINES, Request, get, streams
from http_client import Response, read_response
from server import Server
from wire import read_to_end, serving

#: Clients at once, so that a request left behind on a connection meets another client's.
CLIENTS = 12
#: How long a proxy may take to log what it has answered.
LOG_TIMEOUT_S = 60.0
#: Not much less than the proxies wait for a client to send something.
PROXY_TIMEOUT_S = 1.5
#: What a client hears that has sent nothing in that time, if anything.
GIVEN_UP = re.compile(rb"\Z|HTTP/1\.[01] 408 ")
MARKER = re.compile(r"m=([\w-]+)")


def seen_by(server: Server) -> list[dict[str, str]]:
    """What the application was called for, in order."""
    seen: list[dict[str, str]] = json.loads(server.get("/seen").body)
    return seen


def marker_of(text: str) -> str | None:
    match = MARKER.search(text)
    return match[1] if match else None


def final_response(stream: io.BytesIO, head: bool = False) -> Response:
    """The next response that is no interim one."""
    while (response := read_response(stream, head=head)).status < 200:
        pass
    return response


def told(proxy: Proxy, sent: bytes) -> bytes:
    """What a client hears that sends these bytes, until the proxy closes. One that stands still before it has
    sent them, for longer than the proxies wait, has to come again."""
    while True:
        began = time.monotonic()
        with proxy.connect() as connection:
            # It may have refused them already.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(sent)
            came_late = time.monotonic() - began > PROXY_TIMEOUT_S
            said = read_to_end(connection)
        if not (came_late and GIVEN_UP.match(said)):
            return said


def ask(proxy: Proxy, marker: str) -> Response:
    """What a client hears that asks a plain question."""
    said = told(proxy, get(f"/?m={marker}", "Connection: close"))
    return final_response(io.BytesIO(said))


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    if not chosen.is_installed:
        pytest.skip(f"{chosen.program} is not installed")
    return chosen


@pytest.fixture
def behind() -> Iterator[Server]:
    limits = ("--body-bytes-max=2000", "--body-timeout=1")
    with serving("apps.numbered:app", "-s1", "-t4", *limits, "-l/dev/null") as server:
        yield server


@pytest.fixture
def proxy(kind: Kind, behind: Server) -> Iterator[Proxy]:
    host, port = behind.address
    with kind.running(f"{host}:{port}") as proxy:
        yield proxy


def assert_same_story(proxy: Proxy, seen: list[dict[str, str]], timeout_s: float = LOG_TIMEOUT_S) -> None:
    """Every request the application was called for is one that the proxy has forwarded."""
    deadline = time.monotonic() + timeout_s
    while unknown := unknown_to(proxy, seen):
        assert time.monotonic() < deadline, f"the proxy knows nothing of {unknown}"
        time.sleep(0.05)
    for number, line in proxy.believed().items():
        assert story_of(line) == story_seen(seen[number]), (line, seen[number])


def unknown_to(proxy: Proxy, seen: list[dict[str, str]]) -> list[dict[str, str]]:
    """Those of the requests that the proxy has not forwarded. It logs one without its number when it gives up
    on it, as it does when the machine stands still for longer than its timeouts are."""
    believed, given_up = proxy.believed(), Counter(map(story_of, proxy.given_up()))
    unanswered = [request for number, request in enumerate(seen) if number not in believed]
    given_up.subtract(map(story_seen, unanswered))
    return [request for request in unanswered if given_up[story_seen(request)] < 0]


def story_of(line: str) -> tuple[str, str | None]:
    """The method and the marker of a request line."""
    return line.split(" ")[0], marker_of(line)


def story_seen(request: dict[str, str]) -> tuple[str, str | None]:
    """The same of a request as the application has seen it."""
    return request["method"], marker_of(request["target"])


def test_no_bytes_are_one_request_for_the_one_and_two_for_the_other(proxy: Proxy, behind: Server) -> None:
    corpus = streams()

    def attack(numbered: tuple[int, bytes]) -> None:
        index, sent = numbered
        told(proxy, sent)
        # The next client may have the connection on which something was left behind.
        response = ask(proxy, f"victim-{index}")
        assert (response.status, marker_of(json.loads(response.body)["target"])) == (200, f"victim-{index}")

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(attack, enumerate(corpus.values())))
    assert_same_story(proxy, seen_by(behind))


def test_every_answer_is_to_its_own_request(proxy: Proxy, behind: Server) -> None:
    def converse(pipeline: list[Request]) -> list[tuple[Request, Response]]:
        last = get("/?m=last", "Connection: close")
        said = io.BytesIO(told(proxy, b"".join(request.raw for request in pipeline) + last))
        return [(request, final_response(said, request.method == "HEAD")) for request in pipeline]

    with ThreadPoolExecutor(CLIENTS) as clients:
        conversations = list(clients.map(converse, PIPELINES.values()))
    seen = seen_by(behind)
    assert len(seen) == sum(len(pipeline) + 1 for pipeline in PIPELINES.values())
    for request, response in (pair for conversation in conversations for pair in conversation):
        assert response.status in (200, 204, 304), (request, response)
        asked = seen[int(response.header("X-Request-Number") or -1)]
        assert asked["method"] == request.method
        assert marker_of(asked["target"]) == request.marker
        assert asked["body"] == request.body.decode("latin-1")
        if response.body:
            assert json.loads(response.body)["target"] == asked["target"]
    assert_same_story(proxy, seen_by(behind))


def test_a_server_that_is_fooled_would_be_noticed() -> None:
    """HAProxy hands chunks on as they are; a server that knows none finds requests in them."""
    haproxy = next(kind for kind in KINDS if kind.name == "haproxy")
    if not haproxy.is_installed:
        pytest.skip("haproxy is not installed")
    with fooled() as server, haproxy.running("{}:{}".format(*server.server_address)) as proxy:
        told(proxy, get("/?m=plain", "Connection: close"))
        assert_same_story(proxy, server.seen)
        told(proxy, AMBIGUOUS["coding in capitals"] + get("/?m=last", "Connection: close"))
        told(proxy, PIPELINES["chunked and get"][0].raw + get("/?m=last", "Connection: close"))
        with pytest.raises(AssertionError, match=r"m=(inside|last)"):
            assert_same_story(proxy, list(server.seen), timeout_s=1)
