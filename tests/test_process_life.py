"""The processes of a server from the outside: how they share the work, how they end, and what survives a
crash."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import Server, read_response
from service import open_files
from wire import CLOSE, HOST, message

POLL_TIMEOUT_S = 60.0
POLL_INTERVAL_S = 0.02
#: How long a worker's slot stays empty after the first crash; doubled with each that follows.
BACK_OFF_S_MIN = 0.1
DRAINING = r"(?i)drain|stopping|shutting down"


def eventually(condition: Callable[[], object]) -> bool:
    """Whether `condition` became true; only a fault waits for the timeout."""
    deadline = time.monotonic() + POLL_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True


def executors(process: int) -> list[Path]:
    """The /proc directories of the threads of `process` that run an executor."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{process}/task").iterdir():
            if (task / "comm").read_text().startswith("executor-"):
                found.append(task)
    return found


def accepting(server: Server) -> list[int]:
    """The processes of `server` that run executors at this moment."""
    return [process for process in server.processes() if process != server.pid and executors(process)]


def listener(server: Server) -> str:
    """The listening socket of `server`, as the descriptors of its processes lead to it."""
    _, port = server.address
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (inode,) = [row[9] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")]
    return f"socket:[{inode}]"


def listening(server: Server, socket_of_all: str) -> list[int]:
    """The workers of `server` that hold its listening socket: one that drains lets go of it."""
    found = []
    for process in set(server.processes()) - {server.pid}:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if socket_of_all in open_files(process):
                found.append(process)
    return found


def workers(server: Server, count: int) -> list[int]:
    """The processes of `server` that accept connections, when there are `count` of them."""
    assert eventually(lambda: len(accepting(server)) == count), accepting(server)
    return accepting(server)


@contextlib.contextmanager
def held_request(server: Server, gate: Path, still_accepting: int = 0) -> Iterator[Callable[[], bytes]]:
    """A request that an application thread is working on; the yielded function releases it, once only so many
    workers accept connections, and reads the body."""
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message(f"GET /held?{gate} HTTP/1.1", HOST))
        server.wait_for_log(f"held {gate}")
        its_socket = listener(server)

        def release() -> bytes:
            # Whoever works on it has to know that it drains before it can say so.
            assert eventually(lambda: len(listening(server, its_socket)) == still_accepting)
            gate.touch()
            response = read_response(stream)
            assert response.status == 200
            assert response.header("Connection") == "close"
            assert stream.read() == b""
            return response.body

        yield release


def refused(server: Server) -> bool:
    """Whether nobody listens on the server's address any more."""
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


# Sharing the work


def test_there_are_as_many_workers_as_asked_for(server_factory: ServerFactory) -> None:
    assert len(workers(server_factory("apps.processes:app", "-s3"), 3)) == 3


def test_every_executor_is_pinned_to_one_core(server_factory: ServerFactory) -> None:
    """Within a worker no two share a core; all of them keep to what the server itself was allowed."""
    server = server_factory("apps.processes:app", "-s2")
    for worker in workers(server, 2):
        allowed = [os.sched_getaffinity(int(task.name)) for task in executors(worker)]
        assert [len(cores) for cores in allowed] == [1] * len(allowed)
        union = set().union(*allowed)
        assert len(union) == len(allowed)
        assert union <= os.sched_getaffinity(0)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_server_keeps_to_the_cores_it_was_given(server_factory: ServerFactory) -> None:
    """As under `taskset`: one core allowed means one executor, on that core."""
    before = os.sched_getaffinity(0)
    core = {max(before)}
    os.sched_setaffinity(0, core)
    try:
        server = server_factory("apps.processes:app", "-s1")
    finally:
        os.sched_setaffinity(0, before)
    (worker,) = workers(server, 1)
    assert [os.sched_getaffinity(int(task.name)) for task in executors(worker)] == [core]


def test_all_threads_are_used_when_the_application_blocks(server_factory: ServerFactory) -> None:
    """Sixteen requests that wait for each other: with one thread less running, none of them would end."""
    server = server_factory("apps.processes:app", "-s1", "-t16")
    with ThreadPoolExecutor(16) as clients:
        responses = list(clients.map(lambda _: server.get("/together?16"), range(16)))
    assert [response.body for response in responses] == [b"together"] * 16


def test_every_process_serves(server_factory: ServerFactory) -> None:
    """Connections that are held open at the same time are shared, rather than all taken by the first.

    On a busy machine the second may begin to accept a little later than the first.
    """
    server = server_factory("apps.processes:app", "-s2")
    with contextlib.ExitStack() as stack:
        serving: set[int] = set()
        for _ in range(200):
            connection = stack.enter_context(server.connect())
            stream = stack.enter_context(connection.makefile("rb"))
            connection.sendall(message("GET /pid HTTP/1.1", HOST))
            serving.add(int(read_response(stream).body))
            if len(serving) == 2:
                break
    assert serving == set(workers(server, 2))


# Ending


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_is_finished_before_the_end(
    server_factory: ServerFactory, tmp_path: Path, number: signal.Signals
) -> None:
    server = server_factory("apps.processes:app", "-s2", "--deadman=600")
    with held_request(server, tmp_path / "gate") as release:
        server.signal(number)
        server.wait_for_log(DRAINING)
        assert release() == b"released"
        assert server.wait() == 0
    assert server.processes() == []
    assert refused(server)


def test_a_terminal_interrupt_reaches_all_processes_and_harms_no_request(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    """Ctrl-C is sent to the whole foreground process group; the workers leave the decision to the
    supervisor."""
    server = server_factory("apps.processes:app", "-s2", "--deadman=600")
    with held_request(server, tmp_path / "gate") as release:
        os.killpg(server.pid, signal.SIGINT)
        server.wait_for_log(DRAINING)
        assert release() == b"released"
        assert server.wait() == 0


def test_an_interrupt_of_a_worker_alone_is_ignored(server_factory: ServerFactory) -> None:
    server = server_factory("apps.processes:app", "-s1")
    (worker,) = workers(server, 1)
    os.kill(worker, signal.SIGINT)
    assert [int(server.get("/pid").body) for _ in range(10)] == [worker] * 10


def test_idle_connections_do_not_delay_the_end(server_factory: ServerFactory) -> None:
    server = server_factory("apps.processes:app", "-s1", "--keepalive-timeout=600", "--deadman=600")
    with server.connect() as used, used.makefile("rb") as stream, server.connect() as unused:
        used.sendall(message("GET /pid HTTP/1.1", HOST))
        assert read_response(stream).status == 200
        server.stop()
        assert stream.read() == b""
        assert unused.recv(1) == b""


def test_a_second_term_stops_at_once(server_factory: ServerFactory, tmp_path: Path) -> None:
    server = server_factory("apps.processes:app", "-s1", "--deadman=600")
    with server.connect() as connection:
        connection.sendall(message(f"GET /held?{tmp_path / 'gate'} HTTP/1.1", HOST, CLOSE))
        server.wait_for_log("held ")
        server.signal(signal.SIGTERM)
        server.wait_for_log(DRAINING)
        server.signal(signal.SIGTERM)
        server.wait()
    assert eventually(lambda: not server.processes())


def test_the_deadman_ends_what_does_not_end_itself(server_factory: ServerFactory, tmp_path: Path) -> None:
    server = server_factory("apps.processes:app", "-s1", "--deadman=1")
    with server.connect() as connection:
        connection.sendall(message(f"GET /held?{tmp_path / 'gate'} HTTP/1.1", HOST, CLOSE))
        server.wait_for_log("held ")
        server.signal(signal.SIGTERM)
        server.wait()
        server.wait_for_log("(?i)deadman|kill")
    assert eventually(lambda: not server.processes())


# Crashes


def test_a_killed_worker_is_replaced_and_the_others_serve_on(server_factory: ServerFactory) -> None:
    server = server_factory("apps.processes:app", "-s2")
    before = workers(server, 2)
    served, lost, over = itertools.count(), itertools.count(), threading.Event()

    def client() -> None:
        while not over.is_set():
            try:
                assert server.get("/pid").status == 200
                next(served)
            except ConnectionError:
                next(lost)

    clients = [threading.Thread(target=client) for _ in range(2)]
    for thread in clients:
        thread.start()
    os.kill(before[0], signal.SIGKILL)
    server.wait_for_log(r"(?i)worker.*(signal[ =:]*9|SIGKILL|killed)")
    replaced = eventually(lambda: len(accepting(server)) == 2 and before[0] not in accepting(server))
    over.set()
    for thread in clients:
        thread.join()
    assert replaced
    assert next(served) > 0
    # Each client had at most one request with the worker that died.
    assert next(lost) <= len(clients)
    assert before[1] in accepting(server)
    assert [server.get("/pid").status for _ in range(10)] == [200] * 10


def test_a_worker_that_ends_itself_is_replaced(server_factory: ServerFactory) -> None:
    server = server_factory("apps.processes:app", "-s1")
    (worker,) = workers(server, 1)
    with pytest.raises(ConnectionError):
        server.get("/die")
    server.wait_for_log(r"(?i)worker.*\b7\b")
    replacement = int(server.request(message("GET /pid HTTP/1.1", HOST, CLOSE), timeout=POLL_TIMEOUT_S).body)
    assert replacement != worker
    assert server.processes().count(server.pid) == 1


def test_a_worker_that_crashes_again_and_again_is_started_ever_more_slowly(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    starts_file = tmp_path / "starts"
    server = server_factory("apps.processes:app", "-s1", environment={"STARTS_FILE": str(starts_file)})
    for _ in range(4):
        with pytest.raises(ConnectionError):
            server.request(message("GET /die HTTP/1.1", HOST, CLOSE), timeout=60)
    assert eventually(lambda: len(starts_file.read_text().split()) == 5)
    starts = [float(line) for line in starts_file.read_text().split()]
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    # A slow machine makes them longer and never shorter.
    assert [gap >= BACK_OFF_S_MIN * 2**index for index, gap in enumerate(gaps)] == [True] * 4, gaps


def test_workers_outlive_their_supervisor_only_to_finish(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    server = server_factory("apps.processes:app", "-s2", "--deadman=600")
    with held_request(server, tmp_path / "gate") as release:
        server.signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        # The worker without a request has nothing left to do.
        assert eventually(lambda: len(server.processes()) == 1)
        assert release() == b"released"
    assert eventually(lambda: not server.processes())
    with socket.socket() as successor:
        successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        successor.bind(server.address)


def test_a_finished_response_does_not_wait_for_the_next_request(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    """Responses are sent together while requests wait, but not at the price of a thread's next request."""
    with on_one_core():
        server = server_factory("apps.calls:app", "-s1", "-t1", "-l/dev/null")
    gates = [tmp_path / "first", tmp_path / "second"]
    paths = [f"/held?{gates[0]}", "/sized", f"/held?{gates[1]}"]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in paths]
        for client, path in zip(clients, paths, strict=True):
            client.sendall(message(f"GET {path} HTTP/1.1", HOST))
        server.wait_for_log(f"held {gates[0]}")
        gates[0].touch()
        server.wait_for_log(f"held {gates[1]}")
        assert read_response(stack.enter_context(clients[1].makefile("rb"))).status == 200
        gates[1].touch()


def test_quick_requests_overtake_one_that_computes_for_long(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    """A second thread would only fight over the interpreter, but for requests that are known to be quick."""
    server = server_factory("apps.processes:app", "-s1", "-t2", "-l/dev/null")
    for _ in range(50):
        assert server.get("/pid").status == 200
    gate = tmp_path / "gate"
    with server.connect() as client, client.makefile("rb") as stream:
        client.sendall(message(f"GET /computing?{gate} HTTP/1.1", HOST))
        server.wait_for_log(f"computing {gate}")
        for _ in range(10):
            assert server.get("/pid").status == 200
        gate.touch()
        assert read_response(stream).body == b"released"


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """Processes that start meanwhile have one executor, so that requests are queued as they were sent."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
