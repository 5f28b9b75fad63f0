"""What the application starts inherits nothing of the server's, however it is started."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.children import WAYS
from conftest import ServerFactory
from http_client import read_response
from server import Server
from service import open_files
from test_process_life import eventually, workers
from wire import CLOSE, HOST, message

APP = "apps.children:app"
MODES = {"threads": ["-t4"], "one thread": ["-t1"], "eventlet": ["-t0"], "gevent": ["--green=gevent"]}
EXECUTED = {
    "subprocess",
    "subprocess-keeping",
    "subprocess-passing",
    "subprocess-preexec",
    "multiprocessing-spawn",
    "multiprocessing-forkserver",
    "os.posix_spawn",
    "posix_spawn(3)",
    "os.execv",
    "os.system",
}
#: Soft limits that the server raises for itself.
OPEN_FILES, LOCKED_MEMORY = 1000, 65536
LIMITS = ["prlimit", f"--nofile={OPEN_FILES}:", f"--memlock={LOCKED_MEMORY}:"]
HOLDERS = ["os.fork", "fork(2)", "subprocess-keeping"]
TIMEOUT_S = 60.0


@pytest.fixture(scope="module", params=MODES)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(APP, "-s1", *MODES[request.param], "-l/dev/null", "--keepalive-timeout=1", wrapper=LIMITS)
    try:
        yield server
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        # Helpers of multiprocessing see the end of their parent a moment later.
        eventually(lambda: not server.processes())
    finally:
        server.kill()


@pytest.fixture
def child_path(tmp_path: Path) -> Path:
    return tmp_path / "child"


def ask(server: Server, action: str, **query: str) -> Any:
    response = server.get(f"/{action}?{urllib.parse.urlencode(query)}")
    assert response.status == 200, response
    return json.loads(response.body)


@contextlib.contextmanager
def child(server: Server, way: str, path: Path) -> Iterator[dict[str, Any]]:
    """What a child that lives until the end of the block says that it has inherited."""
    ask(server, "start", way=way, path=str(path))
    assert eventually(path.exists)
    found = json.loads(path.read_text())
    try:
        yield found
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found["pid"], signal.SIGKILL)


def until_end(connection: socket.socket) -> bytes:
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


@pytest.mark.parametrize("way", WAYS)
def test_a_child_holds_no_socket_handler_or_mask_of_the_server(
    server: Server, way: str, child_path: Path
) -> None:
    if way == "pool" and "--green=gevent" in server.command:
        pytest.skip("patched by gevent, a pool may wait for ever")
    if way == "multiprocessing-forkserver" and "-t0" in server.command:
        pytest.skip("patched by eventlet, multiprocessing has no forkserver")
    with server.connect(TIMEOUT_S) as idle:
        idle.sendall(message("GET / HTTP/1.1", HOST))
        read_response(idle.makefile("rb"))
        (worker,) = workers(server, 1)
        with child(server, way, child_path) as found:
            kinds = found["descriptors"].values()
            tcp = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
            sockets = {kind.removeprefix("socket:[").removesuffix("]") for kind in kinds if "socket:" in kind}
            assert not sockets & tcp, "a client's or a listening socket"
            assert found["blocked"] == 0
            for name in ("HUP", "TERM", "USR1", "USR2"):
                bit = 1 << (getattr(signal, f"SIG{name}") - 1)
                assert not found["ignored"] & bit, name
                assert not found["caught"] & bit, name
            local = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
            held = [kind for kind in open_files(worker) if "socket:" in kind]
            assert not set(held) & {f"socket:[{number}]" for number in sockets & local}, (
                "a bell of the worker's"
            )
            if way in EXECUTED:
                assert not [kind for kind in kinds if "eventpoll" in kind or "eventfd" in kind]
            assert not [name for name in found["environment"] if "SPAWN" in name]
            assert (found["open_files"][0], found["locked_memory"][0]) == (OPEN_FILES, LOCKED_MEMORY)


@pytest.mark.parametrize("way", HOLDERS)
def test_an_idle_client_sees_its_end_though_a_child_was_born_meanwhile(
    server: Server, way: str, child_path: Path
) -> None:
    with server.connect(TIMEOUT_S) as idle:
        idle.sendall(message("GET / HTTP/1.1", HOST))
        read_response(idle.makefile("rb"))
        with child(server, way, child_path):
            assert until_end(idle) == b""


@pytest.mark.parametrize("way", HOLDERS)
def test_another_client_is_not_disturbed_by_the_end_of_one_whose_socket_a_child_holds(
    server: Server, way: str, child_path: Path
) -> None:
    with server.connect(TIMEOUT_S) as first:
        path = f"/start?{urllib.parse.urlencode({'way': way, 'path': str(child_path)})}"
        first.sendall(message(f"GET {path} HTTP/1.1", HOST, CLOSE))
        response = until_end(first)
        assert b"200 OK" in response
    pid = int(response.rpartition(b"\r\n\r\n")[2])
    try:
        for _ in range(20):
            with server.connect(TIMEOUT_S) as other:
                other.sendall(message("GET / HTTP/1.1", HOST))
                assert read_response(other.makefile("rb")).status == 200
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_child_ends_by_terminate_and_the_worker_serves(server: Server) -> None:
    worker = ask(server, "")
    assert ask(server, "terminate") == -signal.SIGTERM
    assert ask(server, "") == worker


def test_a_pool_of_processes_ends_with_its_view(server: Server) -> None:
    if "-t0" in server.command or "--green=gevent" in server.command:
        pytest.skip("patched by gevent or eventlet, a pool of multiprocessing may wait for ever")
    assert ask(server, "pool") == [1, 2]


def test_a_child_that_returns_from_the_application_answers_no_request(server: Server) -> None:
    assert ask(server, "return") == 0
    assert ask(server, "return", status="7") == 7
    assert ask(server, "return", **{"raise": "1"}) == 1
    response = server.get("/parts")
    assert response.body == b"first second third"
    server.wait_for_log("RuntimeError: in the child")


def test_the_application_has_the_limits_that_the_server_was_started_with(server: Server) -> None:
    found = ask(server, "inherited")
    assert found["open_files"] == [OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]]
    assert found["locked_memory"] == [LOCKED_MEMORY, resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]]


def test_a_child_ends_though_the_application_has_closed_its_streams(server_factory: ServerFactory) -> None:
    server = server_factory(APP, "-s1", "-l/dev/null")
    ask(server, "close", streams="1")
    assert ask(server, "return", **{"raise": "1"}) == 1
    assert ask(server, "return", status="7") == 7


def test_no_connection_gets_the_number_of_a_standard_stream(server_factory: ServerFactory) -> None:
    server = server_factory(APP, "-s1", "-t2", "-l/dev/null")
    ask(server, "close")
    with contextlib.ExitStack() as connections:
        for _ in range(4):
            connection = connections.enter_context(server.connect(TIMEOUT_S))
            connection.sendall(message("GET / HTTP/1.1", HOST))
            read_response(connection.makefile("rb"))
        found = ask(server, "inherited")
    streams = [found["descriptors"].get(str(stream), "closed") for stream in range(3)]
    assert not [stream for stream in streams if "socket" in stream], streams


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 4096, reason="no process may open so many files"
)
@pytest.mark.parametrize("soft", [256, 1024, 4096])
def test_low_descriptors_are_left_to_the_application(server_factory: ServerFactory, soft: int) -> None:
    """And all of those below its limit that it might want to open."""
    server = server_factory(APP, "-s1", "-t2", "-l/dev/null", wrapper=["prlimit", f"--nofile={soft}:"])
    with contextlib.ExitStack() as connections:
        for _ in range(1100):
            connection = connections.enter_context(server.connect(TIMEOUT_S))
        connection.sendall(message("GET / HTTP/1.1", HOST))
        read_response(connection.makefile("rb"))
        assert ask(server, "select") < 1024
        found = ask(server, "inherited")
        assert found["open_files"][0] == soft
        sockets = [int(number) for number, link in found["descriptors"].items() if "socket" in link]
        assert len(sockets) > 1100
        assert len([number for number in sockets if number < soft]) <= min(soft / 2, 512)


def test_a_child_keeps_no_port_when_the_server_is_gone(server_factory: ServerFactory, tmp_path: Path) -> None:
    server = server_factory(APP, "-s1", "-l/dev/null")
    with child(server, "grandchild", tmp_path / "child"), socket.socket() as successor:
        server.stop()
        # Connections that have ended keep nobody from it, a socket that listens does.
        successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        successor.bind(server.address)
        successor.listen()
