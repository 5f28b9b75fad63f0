"""The access log: Apache's combined format and, at the end of the line, the microseconds the request took."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import Server
from wire import CLOSE, HOST, message

COMBINED = re.compile(
    r"(?P<host>\S+) - - "
    r"\[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    r'"(?P<line>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<bytes>\d+|-) '
    r'"(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)" (?P<microseconds>\d+)'
)


def parsed(text: str) -> list[dict[str, str]]:
    """The fields of every line; each line must be a whole one."""
    matches = [COMBINED.fullmatch(line) for line in text.splitlines()]
    assert all(matches), text
    return [match.groupdict() for match in matches if match]


def logged(server: Server, *fields: str, line: str = "GET /sized?42 HTTP/1.1") -> dict[str, str]:
    """The line that the request leaves on stdout."""
    server.request(message(line, HOST, *fields, CLOSE))
    server.wait_for_log(r'^127.*" \d+$')
    (entry,) = parsed(server.stdout_text())
    return entry


@pytest.fixture
def server(server_factory: ServerFactory) -> Server:
    return server_factory("apps.calls:app", "-s1")


def test_a_line_tells_who_asked_for_what_and_got_how_much(server: Server) -> None:
    entry = logged(server, "Referer: http://localhost/from?x", "User-Agent: test/1 (any)")
    assert entry["host"] == "127.0.0.1"
    assert entry["line"] == "GET /sized?42 HTTP/1.1"
    assert (entry["status"], entry["bytes"]) == ("200", "42")
    assert (entry["referer"], entry["agent"]) == ("http://localhost/from?x", "test/1 (any)")


def test_what_was_not_sent_is_a_dash(server: Server) -> None:
    entry = logged(server)
    assert (entry["referer"], entry["agent"]) == ("-", "-")


def test_the_target_is_logged_as_sent(server: Server) -> None:
    assert (
        logged(server, line="GET /caf%C3%A9%2f?a=%22 HTTP/1.1")["line"] == "GET /caf%C3%A9%2f?a=%22 HTTP/1.1"
    )


def test_a_response_without_a_body_has_no_bytes(server: Server) -> None:
    assert logged(server, line="HEAD /sized?42 HTTP/1.1")["bytes"] in ("0", "-")


def test_a_client_cannot_forge_a_line(server: Server) -> None:
    """Quotes, backslashes and bytes that are no printable ASCII are escaped: a field ends where it seems
    to."""
    entry = logged(server, 'User-Agent: "a" \\" 200 5 "-" \t\x85\xe9 "b', "Referer: \\")
    assert '"' not in re.sub(r"\\.", "", entry["agent"])
    assert entry["agent"].isascii()
    assert entry["agent"].isprintable()
    assert (entry["status"], entry["bytes"]) == ("200", "42")


def test_the_time_is_the_applications_too(server: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with ThreadPoolExecutor(1) as client:
        response = client.submit(server.get, f"/held?{gate}")
        server.wait_for_log("held ")
        began = time.monotonic()
        server.get("/sized?1")
        took_us = (time.monotonic() - began) * 1_000_000
        gate.touch()
        assert response.result().status == 200
    server.wait_for_log(r'^127.*"GET /held.*" \d+$')
    (entry,) = [entry for entry in parsed(server.stdout_text()) if "/held" in entry["line"]]
    assert int(entry["microseconds"]) >= int(took_us)


def test_a_dash_means_standard_output(server_factory: ServerFactory) -> None:
    assert logged(server_factory("apps.calls:app", "-s1", "-l", "-"))["status"] == "200"


def test_the_log_may_go_to_a_file(server_factory: ServerFactory, tmp_path: Path) -> None:
    """Lines of several processes and threads stay whole, none is lost, and none is repeated."""
    path = tmp_path / "access.log"
    server = server_factory("apps.calls:app", "-s2", "-t4", "-l", str(path))
    with ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda index: server.get(f"/sized?{index}"), range(200)))
    server.stop()
    lines = sorted(entry["line"] for entry in parsed(path.read_text()))
    assert lines == sorted(f"GET /sized?{index} HTTP/1.1" for index in range(200))
    assert server.stdout_text() == ""


def test_the_log_is_appended_to(server_factory: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("kept\n")
    server = server_factory("apps.calls:app", "-s1", f"--access-log-file={path}")
    server.get("/sized?1")
    server.stop()
    kept, *lines = path.read_text().splitlines()
    assert kept == "kept"
    assert len(parsed("\n".join(lines))) == 1


def test_dev_null_discards_the_log(server_factory: ServerFactory) -> None:
    server = server_factory("apps.calls:app", "-s1", "-l", "/dev/null")
    assert server.get("/sized?1").status == 200
    server.stop()
    assert server.stdout_text() == ""
