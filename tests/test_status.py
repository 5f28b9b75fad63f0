"""The status process: its numbers, its health, its life, and what it thinks of strange guests."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import versions
from conftest import ServerFactory
from http_client import Response, read_response
from load import UNANSWERED, Connection
from server import Server, run_to_end
from service import Daemon, children, eventually, status, unix_get, unprivileged
from wire import CLOSE, HOST, message

__all__ = ["unprivileged"]

PAGE = re.compile(r"^status page: http://(?P<host>[^:/]+):(?P<port>\d+)/status$", re.MULTILINE)
#: More than the status process holds at once.
GUESTS = 80
KEYS_OF_0_9 = {
    "active_children_count",
    "killed_children_count",
    "configured_children_count",
    "now",
    "pid",
    "uptime",
    "started_at",
    "config",
    "concurrent_requests",
    "children",
}
CHILD_KEYS_OF_0_9 = {"pid", "active", "uptime", "forked_at", "concurrent_requests"}


class Status:
    """Where the status process of a server is found: by the line that the server prints at its start."""

    def __init__(self, text: str) -> None:
        match = PAGE.search(text)
        assert match, text
        self.address = (match["host"], int(match["port"]))

    def request(self, raw: bytes) -> Response:
        """Send `raw` on a connection of its own; again if we stood still for longer than it is waited for."""
        while True:
            with Connection(self.address) as connection:
                try:
                    return connection.ask(raw)
                except UNANSWERED:
                    if not connection.came_late:
                        raise

    def get(self, path: str) -> Response:
        """GET `path`."""
        return self.request(message(f"GET {path} HTTP/1.1", HOST, CLOSE))

    def json(self) -> dict[str, Any]:
        """What /status.json says."""
        response = self.get("/status.json")
        assert (response.status, response.header("Content-Type")) == (200, "application/json")
        answer: dict[str, Any] = json.loads(response.body)
        return answer

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics."""
        lines = self.get("/metrics").body.decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def is_ready(self) -> bool:
        """Whether /health/ready says so."""
        return self.get("/health/ready").status == 200

    def answers(self) -> bool:
        """Whether there is somebody."""
        with contextlib.suppress(OSError):
            return self.get("/health/live").status == 200
        return False


def started(server: Server) -> Status:
    """The status process of a server, once it answers."""
    found = Status(server.stderr_text())
    assert eventually(found.answers)
    return found


def serving(server: Server) -> Status:
    """As `started`, once it sees every worker accept: they say so a moment after they were told to."""
    found = started(server)
    assert eventually(
        lambda: found.json()["active_children_count"] == found.json()["configured_children_count"]
    )
    return found


@pytest.fixture
def server(server_factory: ServerFactory) -> Server:
    return server_factory("apps.calls:app", "-s2", "-t2", "--status-port=0")


# What it says


def test_the_numbers_agree_with_the_requests_the_metrics_and_the_access_log(server: Server) -> None:
    found = serving(server)
    for index in range(20):
        assert server.get(f"/sized?{100 + index}").status == 200
    assert [server.get("/nothing-here").status for _ in range(3)] == [404] * 3
    assert server.request(b"GET / HTTP/1.1\r\n\r\n").status == 400
    assert eventually(
        lambda: found.json()["responses"]["4xx"] == 3 and found.json()["responses"]["2xx"] == 20
    )
    assert eventually(lambda: len(server.stdout_text().splitlines()) == 24)
    seen, samples = found.json(), found.metrics()
    logged = [int(line.split('" ')[1].split()[0]) for line in server.stdout_text().splitlines()]
    assert sum(status == 200 for status in logged) == seen["responses"]["2xx"]
    assert sum(status == 404 for status in logged) == seen["responses"]["4xx"]
    assert sum(status == 400 for status in logged) == seen["refused"] == 1
    assert (seen["requests"], seen["latency"]["count"]) == (23, 23)
    assert sum(child["requests"] for child in seen["children"].values()) == 23
    sent = sum(
        int(line.split('" ')[1].split()[1].replace("-", "0")) for line in server.stdout_text().splitlines()
    )
    assert seen["bytes_out"] == sent
    assert samples["spawning_requests_total"] == 23
    assert samples['spawning_responses_total{class="2xx"}'] == 20
    assert samples['spawning_responses_total{class="4xx"}'] == 3
    assert samples["spawning_requests_refused_total"] == 1
    assert samples["spawning_request_duration_seconds_count"] == 23
    assert samples["spawning_sent_bytes_total"] == seen["bytes_out"]
    assert samples['spawning_workers{state="accepting"}'] == seen["active_children_count"] == 2
    assert samples["spawning_ready"] == 1


def test_the_keys_of_spawning_0_9_are_there(server: Server) -> None:
    seen = serving(server).json()
    assert set(seen) >= KEYS_OF_0_9
    assert (seen["pid"], seen["configured_children_count"]) == (server.pid, 2)
    assert {"host", "port", "num_processes", "threadpool_workers", "args"} <= set(seen["config"])
    assert (seen["config"]["num_processes"], seen["config"]["threadpool_workers"]) == (2, 2)
    assert len(seen["children"]) == 2
    for pid, child in seen["children"].items():
        assert set(child) >= CHILD_KEYS_OF_0_9
        assert str(child["pid"]) == pid
        assert child["pid"] in server.processes()
        assert child["active"] is True
        assert child["memory_bytes"] > 1_000_000


def test_a_thread_shows_what_it_works_on_and_since_when(server: Server, tmp_path: Path) -> None:
    found, gate = serving(server), tmp_path / "gate"
    with ThreadPoolExecutor(1) as client:
        response = client.submit(server.get, f"/held?{gate}")
        server.wait_for_log("held ")
        (child,) = [child for child in found.json()["children"].values() if child["concurrent_requests"]]
        (busy,) = [thread for thread in child["threads"] if thread["busy_for_s"] is not None]
        # Without the query, in which there may be secrets.
        assert busy["request"] == "GET /held"
        assert eventually(lambda: busy_for_s(found) > busy["busy_for_s"])
        gate.touch()
        assert response.result().status == 200
    assert eventually(lambda: busy_for_s(found) == 0)
    assert eventually(lambda: found.json()["concurrent_requests"] == 0)


def busy_for_s(found: Status) -> float:
    threads = [thread for child in found.json()["children"].values() for thread in child["threads"]]
    return max((thread["busy_for_s"] or 0.0 for thread in threads), default=0.0)


def test_promtool_finds_no_fault_with_the_metrics(server: Server) -> None:
    found = serving(server)
    server.get("/sized?5")
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: `make test` installs it"
    response = found.get("/metrics")
    assert response.header("Content-Type") == "text/plain; version=0.0.4"
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=response.body, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_other_paths_are_not_found_and_other_methods_not_allowed(server: Server) -> None:
    found = serving(server)
    for path in ("/", "/status/", "/status.jsonx", "/health", "/favicon.ico"):
        assert found.get(path).status == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        response = found.request(
            message(f"{method} /status HTTP/1.1", HOST, "Content-Length: 3", body=b"abc")
        )
        assert (response.status, response.header("Allow")) == (405, "GET, HEAD")
    for path in ("/status", "/status.json", "/metrics", "/health/live", "/health/ready"):
        assert found.get(path).header("Cache-Control") == "no-store"
        assert found.request(message(f"HEAD {path} HTTP/1.1", HOST, CLOSE)).body == b""


# Health


def test_health_is_told_while_every_thread_is_taken(server_factory: ServerFactory, tmp_path: Path) -> None:
    server = server_factory(
        "apps.calls:app", "-s1", "-t2", "--queue=1", "--queue-timeout=1", "--status-port=0"
    )
    found, gate = serving(server), tmp_path / "gate"
    with ThreadPoolExecutor(8) as clients:
        held = [clients.submit(server.get, f"/held?{gate}") for _ in range(2)]
        assert eventually(lambda: server.stderr_text().count("held ") == 2)
        late = [clients.submit(server.get, "/sized?1") for _ in range(3)]
        assert [response.result().status for response in late] == [503] * 3
        assert found.answers()
        assert found.is_ready()
        assert eventually(lambda: found.json()["queue_timeouts"] == 3)
        assert found.metrics()["spawning_queue_timeouts_total"] == 3
        assert found.metrics()['spawning_threads{state="busy"}'] == 2
        gate.touch()
        assert [response.result().status for response in held] == [200] * 2


def test_it_is_not_ready_before_the_application_is_loaded_nor_while_the_server_stops(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    waits = (
        f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.01)"
    )
    versions.write(tmp_path, "v1", before=waits)
    options = ["-s1", "--status-port=0", "--deadman-timeout=600"]
    server = server_factory(versions.APP, *options, cwd=tmp_path, wait=False)
    server.wait_for_log("^status page: ")
    found = started(server)
    response = found.get("/health/ready")
    assert (response.status, response.body) == (503, b"the first generation is loading\n")
    assert found.json()["stage"] == "starting"
    (tmp_path / "go").touch()
    assert eventually(found.is_ready)
    with server.connect() as connection:
        # A request that never ends holds the worker.
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        assert eventually(lambda: found.json()["connections"] == 1)
        server.signal(signal.SIGTERM)
        assert eventually(lambda: not found.is_ready())
        assert found.get("/health/ready").body == b"the server is stopping\n"
        assert found.answers()
        assert eventually(lambda: found.json()["killed_children_count"] == 1)
    assert server.wait() == 0
    assert not server.processes()
    assert not found.answers()


# Reloads


def test_it_is_ready_throughout_a_reload_and_shows_both_generations(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    versions.write(tmp_path, "v1")
    server = server_factory(
        versions.APP, "-s2", "--status-port=0", cwd=tmp_path, environment=versions.ENVIRONMENT
    )
    found = serving(server)
    waits = (
        f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.01)"
    )
    versions.write(tmp_path, "v2", before=waits)
    server.signal(signal.SIGHUP)

    def loading() -> list[int]:
        return [it["generation"] for it in found.json()["children"].values() if it["state"] == "loading"]

    assert eventually(lambda: loading() == [2, 2])
    assert (found.json()["generation"], found.json()["active_children_count"]) == (1, 2)
    (tmp_path / "go").touch()
    while found.json()["generation"] == 1:
        assert found.is_ready()
    assert found.is_ready()
    assert eventually(lambda: found.json()["reloads"] == 1)
    last = found.json()["last_reload"]
    assert (last["ok"], last["generation"], last["summary"]) == (True, 2, "")
    assert eventually(lambda: len(found.json()["children"]) == 2)


@pytest.mark.parametrize(
    ("code", "why", "traceback"),
    [
        (
            "import no_such_module",
            "it imports 'no_such_module', which does not exist",
            "No module named 'no_such_module'",
        ),
        ("import os\nos._exit(7)", "exit status 7", ""),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV", ""),
        ("import time\ntime.sleep(100)", "start-timeout", ""),
    ],
    ids=["import error", "exit", "signal", "timeout"],
)
def test_why_a_reload_failed_is_shown(
    server_factory: ServerFactory, tmp_path: Path, code: str, why: str, traceback: str
) -> None:
    versions.write(tmp_path, "v1")
    # Long enough for the first version to load on a machine that stands still for seconds.
    options = ["-s2", "--status-port=0", f"--start-timeout={8 if why == 'start-timeout' else 60}"]
    server = server_factory(versions.APP, *options, cwd=tmp_path, environment=versions.ENVIRONMENT)
    found = serving(server)
    assert found.json()["last_reload"] is None
    versions.write(tmp_path, "v2", before=code)
    server.signal(signal.SIGHUP)
    assert eventually(lambda: found.json()["reloads_failed"] == 1)
    last = found.json()["last_reload"]
    assert (last["ok"], last["generation"]) == (False, 2)
    assert why in last["summary"], last
    assert traceback in last["traceback"]
    assert bool(last["traceback"]) == bool(traceback)
    server.wait_for_log("the reload failed")
    assert server.stderr_text().count("the reload failed") == 1
    assert found.is_ready()
    assert found.metrics()["spawning_last_reload_successful"] == 0
    assert server.get("/").body == b"v1"


# Its life


def test_it_is_started_again_when_it_is_killed_and_nobody_else_notices(server: Server) -> None:
    found = serving(server)
    before = found.json()
    os.kill(before["status_pid"], signal.SIGKILL)
    server.wait_for_log("the status process died.*SIGKILL")
    assert eventually(found.answers)
    after = found.json()
    assert after["status_pid"] != before["status_pid"]
    assert set(after["children"]) == set(before["children"])
    assert server.get("/sized?5").status == 200
    server.stop()


def test_signals_for_the_group_do_not_end_it(server: Server) -> None:
    found = serving(server)
    pid = found.json()["status_pid"]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(pid, number)
    assert found.json()["status_pid"] == pid
    assert "the status process died" not in server.stderr_text()


def test_no_code_of_the_application_runs_in_it(server_factory: ServerFactory, tmp_path: Path) -> None:
    versions.write(tmp_path, "v1")
    for name in ("signal", "json", "threading"):
        # What a module of the application may well be called, though its workers do not like that either.
        (tmp_path / f"{name}.py").write_text("import os\nos._exit(9)\n")
    options = ["-s1", "--status-port=0", "--reload=dev"]
    server = server_factory(versions.APP, *options, cwd=tmp_path, wait=False)
    server.wait_for_log("^status page: ")
    assert started(server).answers()
    assert "the status process died" not in server.stderr_text()


def test_it_ends_with_a_supervisor_that_is_killed(server: Server) -> None:
    found = serving(server)
    server.signal(signal.SIGKILL)
    assert eventually(lambda: not server.processes())
    assert not found.answers()


def test_a_process_more_is_a_child_more(server: Server) -> None:
    found = serving(server)
    server.signal(signal.SIGTTIN)
    assert eventually(lambda: found.json()["active_children_count"] == 3)
    assert found.json()["configured_children_count"] == 3
    server.signal(signal.SIGTTOU)
    assert eventually(lambda: len(found.json()["children"]) == 2)
    assert found.json()["configured_children_count"] == 2


def test_a_new_supervisor_takes_the_address_over_and_somebody_always_answers(server: Server) -> None:
    found = serving(server)
    server.signal(signal.SIGUSR2)
    supervisors = {server.pid}
    while server.pid in supervisors:
        # Each of them must be answered, and by somebody who is ready.
        assert found.is_ready()
        supervisors = {found.json()["pid"]}
    assert eventually(lambda: server.pid not in server.processes())
    assert server.wait() == 0
    (successor,) = supervisors
    assert found.is_ready()
    assert found.json()["pid"] == successor
    os.kill(successor, signal.SIGTERM)
    assert eventually(lambda: not server.processes())


def test_it_goes_to_the_background_and_becomes_another_user(unprivileged: Path) -> None:
    log = unprivileged / "log"
    options = ["--status-port=0", "--chuid=nobody:nogroup", f"--stderr={log}", "-p0", "-s1", "apps.hello:app"]
    with Daemon(unprivileged, *options) as daemon:
        assert daemon.started.returncode == 0, daemon.started.stderr
        found = Status(log.read_text())
        assert eventually(found.answers)
        seen = found.json()
        assert seen["status_pid"] in children(daemon.pid)
        assert status(seen["status_pid"])["Uid"] == status(next(iter(map(int, seen["children"]))))["Uid"]
        assert all(child["memory_bytes"] for child in seen["children"].values())


def test_it_may_have_a_unix_socket(server_factory: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    server = server_factory("apps.hello:app", "-s1", f"--status-port=unix:{path}")
    server.wait_for_log(f"^status page: unix:{path}$")
    assert eventually(lambda: unix_get(path, "/health/ready").status == 200)
    server.stop()
    assert not path.exists()


def test_the_address_of_the_application_is_refused() -> None:
    ended = run_to_end("-p", "8099", "--status-port", "8099", "apps.hello:app")
    assert (ended.returncode, ended.stdout) == (64, "")
    first, hint = ended.stderr.splitlines()
    assert first.startswith("spawn: --status-port: 8099 is where the application is served")
    assert hint.startswith("hint: ")


# Strange guests


def test_guests_who_stay_keep_nobody_out(server: Server) -> None:
    found = serving(server)
    with contextlib.ExitStack() as stay:
        for index in range(GUESTS):
            guest = stay.enter_context(socket.create_connection(found.address, 60))
            # Some say nothing, some begin a request, some ask for a page and do not read it.
            guest.sendall([b"", b"GET /status HT", message("GET /status HTTP/1.1", HOST)][index % 3])
        for _ in range(10):
            assert found.is_ready()
        assert server.get("/sized?5").status == 200


def test_a_connection_may_ask_again(server: Server) -> None:
    found = serving(server)
    with socket.create_connection(found.address, 60) as connection, connection.makefile("rb") as stream:
        for path in ("/metrics", "/status", "/nothing", "/health/ready"):
            connection.sendall(message(f"GET {path} HTTP/1.1", HOST))
            assert read_response(stream).status == (404 if path == "/nothing" else 200)


@pytest.mark.parametrize(
    ("raw", "status_code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET /status HTTP/1.1\r\n\r\n", 400),
        (message("GET /status HTTP/1.1", HOST, "X: " + "x" * 20_000), 431),
        (message("POST /status HTTP/1.1", HOST, "Content-Length: 70000"), 413),
        (message("GET /" + "x" * 9000 + " HTTP/1.1", HOST), 414),
    ],
    ids=["tls", "no host", "long header", "large body", "long line"],
)
def test_what_is_no_request_is_refused(server: Server, raw: bytes, status_code: int) -> None:
    found = serving(server)
    assert found.request(raw).status == status_code
    assert found.is_ready()
