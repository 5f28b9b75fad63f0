"""What makes a worker be replaced though it has not crashed; and that no such replacement costs a request."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from conftest import ServerFactory
from http_client import Truncated, read_response
from load import Load
from server import Server
from test_process_life import eventually, workers
from wire import HOST, message

REPLACING = r"replacing a worker.*{}"
#: For requests and workers that must not be taken for those that hang: longer than a machine stands still.
REQUEST_TIMEOUT_S = 5
STUCK_TIMEOUT_S = 6


def start(server_factory: ServerFactory, *arguments: str) -> Server:
    return server_factory("apps.trouble:app", "-l/dev/null", *arguments)


def replaced_without_a_failure(server: Server, load_path: str, option: str, count: int = 2) -> None:
    """Under load every one of the first workers is replaced, for the reason that names `option`."""
    first = set(workers(server, count))
    with Load(server.address, load_path) as load:
        server.wait_for_log(REPLACING.format(rf"\({option}\)"))
        assert eventually(lambda: not first & set(server.processes()))
        load.wait_for_more(50)
    assert load.failures == []
    assert len(workers(server, count)) == count


def served_by(server: Server) -> int | None:
    """The process that answers; None when the machine stood still for longer than a request may take."""
    response = server.get("/pid")
    assert response.status in (200, 504)
    return int(response.body) if response.status == 200 else None


def served_by_another(server: Server, old: int) -> bool:
    return eventually(lambda: served_by(server) not in (old, None))


# Age, requests, memory


def test_a_worker_is_replaced_after_so_many_requests(server_factory: ServerFactory) -> None:
    server = start(server_factory, "-s2", "--max-requests=200", "--max-requests-jitter=50")
    replaced_without_a_failure(server, "/pid", "--max-requests")


def test_a_worker_is_replaced_after_its_time(server_factory: ServerFactory) -> None:
    server = start(server_factory, "-s2", "--max-age=3")
    replaced_without_a_failure(server, "/pid", "--max-age")


def test_an_idle_worker_is_not_replaced_for_its_requests(server_factory: ServerFactory) -> None:
    server = start(server_factory, "-s1", "--max-requests=2", "--max-age=4")
    (first,) = workers(server, 1)
    server.get("/pid")
    server.wait_for_log(REPLACING.format(""))
    assert "(--max-age)" in server.stderr_text()
    assert "(--max-requests)" not in server.stderr_text()
    assert eventually(lambda: first not in server.processes())


def test_a_worker_that_grows_too_large_is_replaced_alone(server_factory: ServerFactory) -> None:
    server = start(server_factory, "-s2", "--max-worker-memory=200M")
    first = workers(server, 2)
    grown = int(server.get("/grow?300").body)
    with Load(server.address, "/pid") as load:
        replacing = server.wait_for_log(REPLACING.format(r"\(--max-worker-memory\)")).group()
        assert f"worker_pid={grown} " in replacing
        assert eventually(lambda: grown not in server.processes())
    assert load.failures == []
    (other,) = set(first) - {grown}
    assert other in workers(server, 2)


def test_a_server_that_grows_too_large_is_reloaded(server_factory: ServerFactory) -> None:
    """A number without a letter counts KiB, as it did in Spawning 0.9."""
    server = start(server_factory, "-s2", f"-m{400 * 1024}")
    first = workers(server, 2)
    server.get("/grow?500")
    with Load(server.address, "/pid") as load:
        server.wait_for_log(r"reloading every worker.*--max-memory")
        server.wait_for_log(r"a new generation serves.*generation=2")
        assert eventually(lambda: not set(first) & set(server.processes()))
    assert load.failures == []
    assert server.stderr_text().count("reloading every worker") == 1


def test_a_server_within_its_limits_is_left_alone(server_factory: ServerFactory) -> None:
    arguments = ["-m4G", "--max-worker-memory=2G", "--max-age=3600", "--max-requests=1000000000"]
    stuck = f"--stuck-timeout={STUCK_TIMEOUT_S}"
    server = start(server_factory, "-s2", stuck, "--request-timeout=60", *arguments)
    first = workers(server, 2)
    began = time.monotonic()
    with Load(server.address, "/pid", clients=1) as load:
        while time.monotonic() - began < 1.5 * STUCK_TIMEOUT_S:
            load.wait_for_more(10)
    assert load.failures == []
    assert workers(server, 2) == first
    assert "WARN" not in server.stderr_text()


# A request that takes too long


def test_a_request_over_its_time_is_answered_504_with_its_stack_in_the_log(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    """Its worker is replaced, and finishes its other requests before it goes."""
    server = start(server_factory, "-s1", "--request-timeout=1", "--deadman-timeout=4")
    (old,) = workers(server, 1)
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message("GET /hang?q HTTP/1.1", HOST))
        response = read_response(stream)
        assert (response.status, response.header("Connection")) == (504, "close")
        assert stream.read() == b""
    server.wait_for_log(r"a request is overdue.*request=\"GET /hang\?q\"")
    server.wait_for_log(r"in hang_in_a_place_of_its_own")
    server.wait_for_log(REPLACING.format(r"\(--request-timeout\)"))
    assert served_by_another(server, old)
    assert eventually(lambda: old not in server.processes())
    assert len(workers(server, 1)) == 1


def test_the_other_requests_of_a_worker_that_is_given_up_are_finished(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    timeouts = [f"--request-timeout={REQUEST_TIMEOUT_S}", "--deadman-timeout=600"]
    server = start(server_factory, "-s1", *timeouts)
    (old,) = workers(server, 1)
    gate = tmp_path / "gate"
    with server.connect() as hanging, hanging.makefile("rb") as stream:
        hanging.sendall(message("GET /hang HTTP/1.1", HOST))
        with server.connect() as dripping, dripping.makefile("rb") as drops:
            dripping.sendall(message(f"GET /drip_until?{gate} HTTP/1.1", HOST))
            assert read_response(stream).status == 504
            assert served_by_another(server, old)
            gate.touch()
            response = read_response(drops)
            assert (response.status, set(response.body)) == (200, set(b"."))


def test_a_response_that_has_begun_is_cut_off(server_factory: ServerFactory) -> None:
    server = start(server_factory, "-s1", f"--request-timeout={REQUEST_TIMEOUT_S}")
    with pytest.raises(Truncated) as fault:
        server.get("/hang_after_a_piece")
    assert fault.value.response is not None
    assert (fault.value.response.status, fault.value.response.body) == (200, b"begun")
    server.wait_for_log(r"a request is overdue")


def test_a_response_that_goes_on_is_not_overdue(server_factory: ServerFactory) -> None:
    server = start(server_factory, "-s1", f"--request-timeout={REQUEST_TIMEOUT_S}")
    seconds = REQUEST_TIMEOUT_S + 2
    assert server.get(f"/drip?{seconds}").body == b"." * 10 * seconds
    assert "overdue" not in server.stderr_text()


def test_a_client_that_reads_slowly_is_not_the_applications_fault(server_factory: ServerFactory) -> None:
    server = start(server_factory, "-s1", f"--request-timeout={REQUEST_TIMEOUT_S}")
    with server.connect() as connection:
        connection.sendall(message("GET /endless HTTP/1.1", HOST))
        time.sleep(REQUEST_TIMEOUT_S + 2)
        assert server.get("/pid").status == 200
    assert "overdue" not in server.stderr_text()


def test_time_in_the_queue_is_not_the_applications(server_factory: ServerFactory, tmp_path: Path) -> None:
    """One thread is busy for longer than the queue's next request may take."""
    timeouts = [f"--request-timeout={REQUEST_TIMEOUT_S}", "--queue-timeout=600"]
    server = start(server_factory, "-s1", "-t1", *timeouts)
    gate = tmp_path / "gate"
    with server.connect() as dripping, server.connect() as waiting, waiting.makefile("rb") as stream:
        dripping.sendall(message(f"GET /drip_until?{gate} HTTP/1.1", HOST))
        server.wait_for_log(f"drips until {gate}")
        waiting.sendall(message("GET /pid HTTP/1.1", HOST))
        time.sleep(REQUEST_TIMEOUT_S + 2)
        gate.touch()
        assert read_response(stream).status == 200
    assert "overdue" not in server.stderr_text()


# Signs of life


@pytest.mark.parametrize(
    ("path", "who"), [("/hold_interpreter", "the main thread"), ("/stop_executor", "executor 0")]
)
def test_a_worker_that_is_stuck_is_replaced(server_factory: ServerFactory, path: str, who: str) -> None:
    server = start(server_factory, "-s2", f"--stuck-timeout={STUCK_TIMEOUT_S}", "--deadman-timeout=2")
    first = workers(server, 2)
    with server.connect() as connection:
        connection.sendall(message(f"GET {path} HTTP/1.1", HOST))
        replacing = server.wait_for_log(REPLACING.format(r"\(--stuck-timeout\)")).group()
        assert who in replacing
        (stuck,) = [worker for worker in first if f"worker_pid={worker} " in replacing]
        assert eventually(lambda: stuck not in server.processes())
    assert (set(first) - {stuck}) < set(workers(server, 2))
    assert server.get("/pid").status == 200


def test_a_stopped_process_is_stuck(server_factory: ServerFactory) -> None:
    server = start(server_factory, "-s1", "--stuck-timeout=2")
    (first,) = workers(server, 1)
    os.kill(first, signal.SIGSTOP)
    assert eventually(lambda: first not in server.processes())
    assert int(server.get("/pid").body) != first


def test_an_idle_server_is_not_stuck(server_factory: ServerFactory) -> None:
    server = start(server_factory, "-s2", f"--stuck-timeout={STUCK_TIMEOUT_S}")
    first = workers(server, 2)
    time.sleep(1.5 * STUCK_TIMEOUT_S)
    assert workers(server, 2) == first
    assert "replacing" not in server.stderr_text()
