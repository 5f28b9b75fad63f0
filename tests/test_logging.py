"""What the server writes about requests and about itself, and in which form."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import versions
from conftest import ServerFactory
from server import Server, run_to_end
from service import eventually
from wire import CLOSE, HOST, message


def line_of(server_factory: ServerFactory, format_: str, *fields: str, path: str = "/sized?42") -> str:
    """The line that a request leaves in an access log of that format."""
    server = server_factory("apps.calls:app", "-s1", f"--access-log-format=<{format_}>")
    assert server.request(message(f"GET {path} HTTP/1.1", HOST, *fields, CLOSE)).status == 200
    return server.wait_for_log(r"^<(.*)>$")[1]


def objects(text: str) -> list[dict[str, Any]]:
    """Every line as an object."""
    return [json.loads(line) for line in text.splitlines()]


# The access log


def test_atoms_may_be_spelled_as_apache_does(server_factory: ServerFactory) -> None:
    line = line_of(
        server_factory,
        '%h %l %u %t "%r" %>s %b %B %m %U %q %H "%{Referer}i" "%{User-Agent}i" %T %D %L %M %p %%',
        "Referer: http://a/",
        "User-Agent: b c",
        "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    )
    assert re.fullmatch(
        r'127\.0\.0\.1 - Aladdin \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /sized\?42 HTTP/1\.1" '
        r'200 42 42 GET /sized 42 HTTP/1\.1 "http://a/" "b c" \d+ \d+ \d+\.\d{6} \d+ \d+ %',
        line,
    ), line


def test_atoms_may_be_spelled_as_gunicorn_does(server_factory: ServerFactory) -> None:
    line = line_of(
        server_factory,
        '%(h)s %(s)s "%(f)s" "%(a)s" %({x-request-id}i)s %({content-type}o)s %({HTTP_X_A}e)s',
        "User-Agent: b",
        "X-Request-ID: 7f3a",
        "X-A: 1",
    )
    assert line == '127.0.0.1 200 "-" "b" 7f3a text/plain 1'


def test_fields_of_the_response_are_those_that_were_sent(server_factory: ServerFactory) -> None:
    line = line_of(server_factory, "%{Content-Length}o %{server}o %{connection}o %{X-None}o")
    assert line == "42 Spawning close -"


def test_fields_of_a_streamed_response_are_known_as_well(server_factory: ServerFactory) -> None:
    line = line_of(server_factory, "%s %{Transfer-Encoding}o %B", path="/streamed")
    assert line == "200 chunked 5"


def test_a_refused_request_has_dashes(server_factory: ServerFactory) -> None:
    server = server_factory("apps.calls:app", "-s1", "--access-log-format=<%m %U %s %{Server}o>")
    assert server.request(b"GET / HTTP/1.1\r\n\r\n").status == 400
    assert server.wait_for_log("^<.*>$")[0] == "<- - 400 ->"


def test_an_unknown_atom_is_refused_with_the_list_of_those_there_are() -> None:
    ended = run_to_end("--access-log-format", "%h %z", "apps.hello:app")
    assert (ended.returncode, ended.stdout) == (64, "")
    first, hint = ended.stderr.splitlines()
    assert first == 'spawn: --access-log-format: "%z" begins with no atom'
    assert all(atom in hint for atom in ("%h", "%D", "%{Name}i", "%{Name}o", "%{NAME}e"))


def test_json_lines_hold_the_request_id(server_factory: ServerFactory) -> None:
    server = server_factory("apps.calls:app", "-s1", "--access-log-format=json")
    server.request(message("GET /sized?42 HTTP/1.1", HOST, "X-Request-ID: 7f3a", 'User-Agent: "b"', CLOSE))
    server.wait_for_log(r"7f3a.*\n")
    (line,) = objects(server.stdout_text())
    assert line.pop("pid") in server.processes()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line.pop("time"))
    assert line.pop("taken_us") > 0
    assert line == {
        "client": "127.0.0.1",
        "method": "GET",
        "target": "/sized?42",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 42,
        "complete": True,
        "referer": None,
        "user_agent": '"b"',
        "request_id": "7f3a",
    }


def test_the_application_sees_the_request_id_as_it_was_sent(server_factory: ServerFactory) -> None:
    server = server_factory("apps.environ:app", "-s1")
    raw = message("GET / HTTP/1.1", HOST, "X-Request-ID: a b/7", CLOSE)
    assert b"a b/7" in server.request(raw).body


# Events


def test_in_json_every_line_is_an_object_from_the_first_to_the_last(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    versions.write(tmp_path, "v1")
    server = server_factory(
        versions.APP, "-s1", "--log-format=json", cwd=tmp_path, environment=versions.ENVIRONMENT
    )
    assert server.get("/").body == b"v1"
    versions.write(tmp_path, "v2", before="import no_such_module")
    server.signal(signal.SIGHUP)
    server.wait_for_log("the reload failed")
    server.stop()
    events = objects(server.stderr_text())
    assert all({"time", "level", "pid", "message"} <= set(event) for event in events)
    assert events[0]["message"].startswith("Spawning ")
    (failed,) = [event for event in events if event["message"].startswith("the reload failed")]
    assert (failed["level"], failed["generation"]) == ("ERROR", 2)
    assert "No module named 'no_such_module'" in failed["traceback"]
    (request,) = objects(server.stdout_text())
    assert (request["target"], request["status"]) == ("/", 200)


def test_a_start_that_fails_is_an_object_too() -> None:
    ended = run_to_end("--log-format=json", "--port=0", "apps.broken.imports_missing:app")
    assert ended.returncode == 70
    assert [event["level"] for event in objects(ended.stderr)][-1] == "ERROR"
    assert "cannot load the application" in objects(ended.stderr)[-1]["message"]


@pytest.mark.parametrize(("level", "is_logged"), [("error", False), ("warning", False), ("info", True)])
def test_what_is_less_important_than_the_level_is_not_logged(
    server_factory: ServerFactory, level: str, is_logged: bool
) -> None:
    server = server_factory("apps.hello:app", "-s1", f"--log-level={level}")
    server.stop()
    assert ("stopping: draining" in server.stderr_text()) == is_logged


def test_debug_tells_why_a_request_was_refused(server_factory: ServerFactory) -> None:
    server = server_factory("apps.hello:app", "-s1", "--log-level=debug")
    assert server.request(b"GET / HTTP/1.1\r\n\r\n").status == 400
    server.wait_for_log('level=DEBUG.*message="request refused".*no Host field')


@pytest.mark.parametrize(
    ("option", "word"), [("--log-level", "loud"), ("--log-format", "xml"), ("--access-log-format", "")]
)
def test_other_words_are_refused(option: str, word: str) -> None:
    ended = run_to_end(option, word, "apps.hello:app")
    assert ended.returncode == 64
    first, hint = ended.stderr.splitlines()
    assert first.startswith(f"spawn: {option}: ")
    assert hint.startswith("hint: choose ")


def test_a_worker_that_dies_is_told_in_the_workers_format_as_well(server_factory: ServerFactory) -> None:
    server = server_factory("apps.processes:app", "-s1", "--log-format=json")
    with pytest.raises(ConnectionError):
        server.get("/die")
    assert died(server)["how"] == "exit status 7"


def died(server: Server) -> dict[str, Any]:
    """The event of a worker's death."""

    def events() -> list[dict[str, Any]]:
        whole = server.stderr_text().rpartition("\n")[0]
        return [event for event in objects(whole) if event["message"] == "a worker died"]

    assert eventually(events)
    return events()[0]
