"""The logs tell the truth: what went out, what was cut and by whom, what is missing, and when it is over."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import Server, read_response
from service import eventually
from wire import CLOSE, HOST, message

MIB = 1024 * 1024


def leave_early(server: Server, target: str) -> None:
    """Read a little of a response, and leave."""
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(message(f"GET {target} HTTP/1.1", HOST, CLOSE))
        assert connection.recv(1024)
        # What is unread makes the kernel reset the connection.


@pytest.mark.parametrize("target", ["/large?30", "/pieces?30"])
def test_a_client_that_leaves_is_logged_with_the_bytes_it_got(
    server_factory: ServerFactory, target: str
) -> None:
    server = server_factory("apps.honest:app", "-s1", "--status-port=0")
    leave_early(server, target)
    line = server.wait_for_log(r'GET /\w+\?30 HTTP/1.1" 200 (\d+) .* \d+ cut$')
    assert 1 <= int(line[1]) < 20 * MIB
    port = int(server.wait_for_log(r"status page: http://127\.0\.0\.1:(\d+)")[1])
    with socket.create_connection(("127.0.0.1", port), 60) as connection, connection.makefile("rb") as stream:
        connection.sendall(message("GET /status.json HTTP/1.1", HOST, CLOSE))
        told = json.loads(read_response(stream).body)
    assert f'"bytes_out": {line[1]}' in json.dumps(told), told


def test_a_response_that_is_whole_is_not_marked(server_factory: ServerFactory) -> None:
    server = server_factory("apps.honest:app", "-s1")
    assert len(server.get("/large?3").body) == 3 * MIB
    server.wait_for_log(rf'GET /large\?3 HTTP/1.1" 200 {3 * MIB} .* \d+$')


def test_an_application_that_fails_in_the_middle_is_marked(server_factory: ServerFactory) -> None:
    server = server_factory("apps.honest:app", "-s1", "--access-log-format=json")
    with server.connect() as connection:
        connection.sendall(message("GET /fails HTTP/1.1", HOST))
        while connection.recv(4096):
            pass
    line = json.loads(server.wait_for_log(r'^\{.*"/fails".*$')[0])
    assert line["complete"] is False
    assert line["status"] == 200


def test_requests_that_find_no_thread_are_one_warning(server_factory: ServerFactory, tmp_path: Path) -> None:
    server = server_factory("apps.processes:app", "-s1", "-t2", "--queue-timeout=0.5")
    gate = tmp_path / "gate"
    held = [server.connect() for _ in range(2)]
    for connection in held:
        connection.sendall(message(f"GET /held?{gate} HTTP/1.1", HOST, CLOSE))
    assert eventually(lambda: server.stderr_text().count("held /") == 2)
    statuses: list[int] = []
    clients = [threading.Thread(target=lambda: statuses.append(server.get("/pid").status)) for _ in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert statuses == [503] * 4
    gate.touch()
    for connection in held:
        connection.close()
    server.stop()
    said = re.findall(r"all 2 threads busy for 0\.5 s, (\d+) requests? answered 503", server.stderr_text())
    assert sum(int(number) for number in said) == 4
    assert len(said) <= 2, said


def test_a_drain_that_ends_by_force_names_and_answers_what_it_cuts(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    server = server_factory("apps.processes:app", "-s1", "-t1", "--deadman-timeout=8")
    held, waiting = server.connect(), server.connect()
    held.sendall(message(f"GET /held?{tmp_path / 'never'} HTTP/1.1", HOST))
    server.wait_for_log("held /")
    waiting.sendall(message("GET /pid?waits HTTP/1.1", HOST))
    server.signal(signal.SIGTERM)
    for connection in (held, waiting):
        with connection, connection.makefile("rb") as stream:
            assert read_response(stream).status == 503
    server.wait()
    said = server.stderr_text()
    assert "the drain takes too long: cutting off the requests that are left" in said
    assert re.search(r'the application has not answered the request.*request="GET /held\?', said)
    assert "in wait_for_file" in said
    assert re.search(r'no thread had taken the request" request="GET /pid\?waits"', said)
    server.wait_for_log(r'"GET /held\?\S+ HTTP/1.1" 503 - .* cut$')
    server.wait_for_log(r'"GET /pid\?waits HTTP/1.1" 503 - .* cut$')


def test_a_thread_that_keeps_a_worker_from_ending_is_named(server_factory: ServerFactory) -> None:
    server = server_factory("apps.honest:app", "-s1", "--deadman-timeout=15")
    server.get("/thread?mailer")
    server.signal(signal.SIGTERM)
    server.wait_for_log("threads of the application that are no daemons .*threads=mailer")
    server.wait_for_log("in sleeps_long")
    server.kill()


def test_a_crash_that_is_over_is_logged(server_factory: ServerFactory) -> None:
    server = server_factory("apps.processes:app", "-s1")
    with server.connect() as connection:
        connection.sendall(message("GET /die HTTP/1.1", HOST))
        connection.recv(1)
    server.wait_for_log("a worker died")
    server.wait_for_log("a worker serves again in its slot")


def test_the_lines_at_the_start_have_a_time_in_a_file(server_factory: ServerFactory, tmp_path: Path) -> None:
    log = tmp_path / "err"
    server = server_factory("apps.hello:app", "-s1", f"--stderr={log}", wait=False)
    assert eventually(lambda: log.exists() and "ready: 1 process" in log.read_text())
    server.stop()
    for line in log.read_text().splitlines():
        assert re.match(r"time=\d{4}-\d\d-\d\dT\S+ level=INFO pid=\d+ message=", line), line


def test_a_failed_load_names_the_missing_module(server_factory: ServerFactory, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import nosuch.part\n")
    server = server_factory("shop:app", "-s1", cwd=tmp_path, wait=False)
    assert server.wait() == 70
    first = next(line for line in server.stderr_text().splitlines() if "cannot load" in line)
    assert "it imports 'nosuch', which does not exist" in first


# === What is not logged ===


def test_a_skipped_path_leaves_no_line_and_others_do(server_factory: ServerFactory) -> None:
    server = server_factory("apps.calls:app", "-s1", "--access-log-skip=/sized", "--access-log-skip=/st*")
    server.get("/sized?1")
    server.get("/static/x")
    server.get("/other")
    server.wait_for_log("GET /other")
    assert "/sized" not in server.stdout_text()
    assert "/static" not in server.stdout_text()


def test_what_went_wrong_is_logged_all_the_same(server_factory: ServerFactory) -> None:
    server = server_factory("apps.calls:app", "-s1", "--access-log-skip=/sized", "--access-log-skip-ok")
    assert server.get("/sized?1").status == 200
    server.get("/other")
    server.wait_for_log("GET /other")
    assert '"GET /sized?1 HTTP/1.1" 200' not in server.stdout_text()


def test_the_health_path_needs_no_thread_and_leaves_no_line(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    server = server_factory(
        "apps.processes:app", "-s1", "-t1", "--health-path=/healthz", "--drain-delay=3600"
    )
    gate = tmp_path / "gate"
    held = server.connect()
    held.sendall(message(f"GET /held?{gate} HTTP/1.1", HOST, CLOSE))
    server.wait_for_log("held /")
    with server.connect() as connection, connection.makefile("rb") as stream:
        for _ in range(3):
            connection.sendall(message("GET /healthz?x=1 HTTP/1.1", HOST))
            response = read_response(stream)
            assert (response.status, response.body) == (200, b"ok\n")
        connection.sendall(message("HEAD /healthz HTTP/1.1", HOST))
        assert read_response(stream, head=True).status == 200
        connection.sendall(message("GET /healthz HTTP/1.1", HOST, CLOSE))
        assert read_response(stream).status == 200
        assert stream.read() == b""
    server.signal(signal.SIGTERM)
    server.wait_for_log("stopping soon")
    assert server.get("/healthz").status == 503
    gate.touch()
    with held, held.makefile("rb") as stream:
        assert read_response(stream).status == 200
    server.stop()
    assert "/healthz" not in server.stdout_text()
