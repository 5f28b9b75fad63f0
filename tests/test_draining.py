"""The end of a server, as those see it who connect meanwhile: served or refused at once, and nothing else."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import Server, read_response
from service import children, eventually
from wire import CLOSE, HOST, message

HELLO = message("GET /pid HTTP/1.1", HOST, CLOSE)


def how_it_ends(address: tuple[str, int] | str) -> str:
    """What becomes of somebody who connects now and wants one page."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(60)
        try:
            connection.connect(address)
            connection.sendall(HELLO)
            with connection.makefile("rb") as stream:
                return str(read_response(stream).status)
        except (ConnectionRefusedError, FileNotFoundError):
            return "refused"
        except OSError as error:
            return repr(error)


def held(server: Server, gate: Path) -> socket.socket:
    """A connection with a request that the application works on until `gate` exists."""
    connection = server.connect()
    connection.sendall(message(f"GET /held?{gate} HTTP/1.1", HOST))
    server.wait_for_log(f"held {gate}")
    return connection


def answered(connection: socket.socket) -> int:
    """The status of the response on a connection that ends with it."""
    with connection, connection.makefile("rb") as stream:
        status = read_response(stream).status
        assert stream.read() == b""
        return status


def refuses(address: tuple[str, int] | str) -> bool:
    """Whether nobody listens there any more."""
    return how_it_ends(address) == "refused"


# === Nobody new ===


@pytest.mark.parametrize("reactor", ["auto", "epoll"])
def test_who_connects_while_the_server_drains_is_refused(
    server_factory: ServerFactory, tmp_path: Path, reactor: str
) -> None:
    server = server_factory(
        "apps.processes:app", "-s2", "-t2", "--deadman-timeout=60", f"--reactor={reactor}"
    )
    gate = tmp_path / "gate"
    connection = held(server, gate)
    server.signal(signal.SIGTERM)
    # Long before the request ends that holds the server.
    assert eventually(lambda: refuses(server.address))
    assert {how_it_ends(server.address) for _ in range(20)} == {"refused"}
    gate.touch()
    assert answered(connection) == 200
    assert server.wait() == 0


def test_a_unix_socket_refuses_while_the_server_drains(server_factory: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    server = server_factory(
        "apps.processes:app", "-s1", "-t2", "--deadman-timeout=60", f"-bunix:{path}", "-p0"
    )
    gate = tmp_path / "gate"
    connection = held(server, gate)
    assert how_it_ends(str(path)) == "200"
    server.signal(signal.SIGTERM)
    assert eventually(lambda: refuses(str(path)))
    gate.touch()
    assert answered(connection) == 200
    assert server.wait() == 0
    assert not path.exists()


def test_another_server_may_have_the_port_while_this_one_drains(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    server = server_factory("apps.processes:app", "-s1", "-t2", "--deadman-timeout=60")
    gate = tmp_path / "gate"
    connection = held(server, gate)
    server.signal(signal.SIGTERM)
    host, port = server.address
    other = server_factory("apps.hello:app", "-s1", f"-b{host}:{port}")
    assert other.get("/").body == b"Hello"
    gate.touch()
    assert answered(connection) == 200
    assert server.wait() == 0
    assert other.get("/").body == b"Hello"


def test_a_reload_refuses_nobody(server_factory: ServerFactory, tmp_path: Path) -> None:
    server = server_factory("apps.processes:app", "-s1", "-t2", "--deadman-timeout=60")
    gate = tmp_path / "gate"
    connection = held(server, gate)
    server.signal(signal.SIGHUP)
    server.wait_for_log("a new generation serves")
    assert {how_it_ends(server.address) for _ in range(20)} == {"200"}
    gate.touch()
    assert answered(connection) == 200


# === Everybody who waits ===


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_who_waits_in_the_backlog_is_served(server_factory: ServerFactory, tmp_path: Path, kind: str) -> None:
    """The workers stand still while the server is told to stop: nobody was accepted, and nobody is reset."""
    path = tmp_path / "http.sock"
    server = server_factory("apps.hello:app", "-s2", "--stuck-timeout=0", f"-bunix:{path}", "-p0")
    address: tuple[str, int] | str = server.address if kind == "tcp" else str(path)
    workers = children(server.pid)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    ends: list[str] = []
    clients = [threading.Thread(target=lambda: ends.append(how_it_ends(address))) for _ in range(30)]
    for client in clients:
        client.start()
    waiting = [connected(address) for _ in range(10)]
    server.signal(signal.SIGTERM)
    server.wait_for_log("stopping: draining every worker")
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    for connection in waiting:
        connection.sendall(HELLO)
        assert answered(connection) == 200
    for client in clients:
        client.join()
    # A client whose thread began late may have come after the end.
    assert set(ends) <= {"200", "refused"}, Counter(ends)
    assert server.wait() == 0


def connected(address: tuple[str, int] | str) -> socket.socket:
    """A connection that nobody has accepted yet."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    connection = socket.socket(family)
    connection.settimeout(60)
    connection.connect(address)
    return connection


def test_a_socket_that_was_given_stays_open_and_keeps_who_waits(server_factory: ServerFactory) -> None:
    """As systemd's: the next server there answers who connected in between."""
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        given.listen(64)
        server = server_factory(
            "apps.hello:app", "-s1", f"-bfd://{given.fileno()}", pass_fds=[given.fileno()]
        )
        address: tuple[str, int] = given.getsockname()
        assert how_it_ends(address) == "200"
        server.stop()
        late = connected(address)
        late.sendall(HELLO)
        server = server_factory(
            "apps.hello:app", "-s1", f"-bfd://{given.fileno()}", pass_fds=[given.fileno()]
        )
        assert answered(late) == 200


@pytest.mark.parametrize("delay", ["0", "0.5"])
def test_a_stop_under_load_loses_no_request(server_factory: ServerFactory, delay: str) -> None:
    """Clients that connect anew for each request, at full speed and from many threads."""
    server = server_factory("apps.hello:app", "-s2", "-t2", f"--drain-delay={delay}", "-l/dev/null")
    address = server.address
    ends: Counter[str] = Counter()
    is_over = threading.Event()

    def visit() -> None:
        mine: Counter[str] = Counter()
        while not is_over.is_set() and mine["refused"] == 0:
            mine[how_it_ends(address)] += 1
        ends.update(mine)

    clients = [threading.Thread(target=visit) for _ in range(16)]
    for client in clients:
        client.start()
    time.sleep(0.3)
    server.stop()
    is_over.set()
    for client in clients:
        client.join()
    assert set(ends) <= {"200", "refused"}, ends
    assert ends["200"] > 0


# === The delay ===


def ready(server: Server) -> int:
    """The status of the readiness check."""
    port = int(server.wait_for_log(r"status page: http://127\.0\.0\.1:(\d+)")[1])
    with socket.create_connection(("127.0.0.1", port), 60) as connection, connection.makefile("rb") as stream:
        connection.sendall(message("GET /health/ready HTTP/1.1", HOST, CLOSE))
        return read_response(stream).status


def test_a_delayed_stop_fails_its_check_and_serves_on(server_factory: ServerFactory) -> None:
    server = server_factory("apps.hello:app", "-s1", "--drain-delay=3600", "--status-port=0")
    assert ready(server) == 200
    server.signal(signal.SIGTERM)
    server.wait_for_log("stopping soon: .*a second signal drains at once.* drain_delay_s=3600")
    assert ready(server) == 503
    assert {how_it_ends(server.address) for _ in range(20)} == {"200"}
    # Nobody waits so long for a reload, nor for another supervisor.
    server.signal(signal.SIGUSR2)
    server.wait_for_log("the server is stopping, no other supervisor is started")
    server.stop()


def test_the_delay_ends_by_itself(server_factory: ServerFactory) -> None:
    server = server_factory("apps.hello:app", "-s1", "--drain-delay=0.2")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    said = server.stderr_text()
    assert said.index("stopping soon") < said.index("stopping: draining")
