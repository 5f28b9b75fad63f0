"""Green mode, `-t 0`: each request a green thread of eventlet or gevent on the main thread of its process."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from comet import broadcast, until
from conftest import ServerFactory
from http_client import read_response
from load import Load
from server import Server, run_to_end
from test_frameworks import FRAMEWORKS, NAME
from test_process_life import eventually, workers
from wire import CLOSE, HOST, message, serving

EX_USAGE = 64
EX_SOFTWARE = 70
LIBRARIES = ["eventlet", "gevent"]
SIDE_BY_SIDE = 200
COMET_CLIENTS = 1000
DATABASE_CLIENTS, DATABASE_REQUESTS = 10, 2000
LARGE_BYTES = 64 << 20
TIMEOUT_S = 60.0

APP = "apps.green:app"


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=LIBRARIES)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One process, so that whatever happens side by side happens in it."""
    with serving(APP, "-s1", "-t0", f"--green={request.param}", "-l/dev/null") as server:
        yield server


def start(server_factory: ServerFactory, library: str, *arguments: str) -> Server:
    return server_factory(APP, "-s1", "-t0", f"--green={library}", "-l/dev/null", *arguments)


@contextlib.contextmanager
def asked(server: Server, *paths: str) -> Iterator[list[socket.socket]]:
    """Connections on each of which a path was asked for."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(server.connect(TIMEOUT_S)) for _ in paths]
        for connection, path in zip(connections, paths, strict=True):
            connection.sendall(message(f"GET {path} HTTP/1.1", HOST, CLOSE))
        yield connections


def answer(connection: socket.socket) -> tuple[int, bytes]:
    with connection.makefile("rb") as stream:
        response = read_response(stream)
        return response.status, response.body


# How requests run


def test_requests_run_on_the_main_thread_under_patched_functions(server: Server) -> None:
    facts = json.loads(server.get("/facts").body)
    assert facts["is_main_thread"]
    assert facts["sleep"].partition(".")[0] in LIBRARIES
    # While one request waits another is served, by the same thread: applications must expect that.
    assert facts["multithread"] is True
    assert "green threads of" in server.stderr_text()


def test_eventlet_is_the_library_of_old(server_factory: ServerFactory) -> None:
    server = server_factory(APP, "-s1", "-t", "0")
    assert json.loads(server.get("/facts").body)["sleep"].startswith("eventlet.")


def test_to_name_a_library_is_to_ask_for_green_threads(server_factory: ServerFactory) -> None:
    server = server_factory(APP, "-s1", "--green", "gevent")
    assert json.loads(server.get("/facts").body)["sleep"].startswith("gevent.")


def test_many_requests_wait_side_by_side(server: Server) -> None:
    """None is answered before all are in the application at once."""
    with asked(server, *[f"/together?{SIDE_BY_SIDE}"] * SIDE_BY_SIDE) as connections:
        assert {answer(connection) for connection in connections} == {(200, b"together")}


def test_what_is_kept_for_each_thread_is_bounded_by_how_many_requests_run_at_once(
    server_factory: ServerFactory, library: str
) -> None:
    """Half of the clients keep their connections, the others open one for each request."""
    server = server_factory("apps.database:app", "-s1", f"--green={library}", "-l/dev/null")
    with Load(server.address, "/ask", clients=DATABASE_CLIENTS) as load:
        load.wait_for_more(DATABASE_REQUESTS)
    assert load.failures == []
    assert set(load.bodies) == {b"asked"}
    found = json.loads(server.get("/counts").body)
    # One for each client, and where one asks anew before its last green thread has come to rest another.
    assert found["opened"] <= 2 * DATABASE_CLIENTS, found
    assert found["held"] == found["opened"]


@pytest.mark.parametrize("left", ["timeout", "kill"])
def test_what_a_request_leaves_for_its_green_thread_hits_no_other_request(
    server_factory: ServerFactory, left: str
) -> None:
    server = start(server_factory, "gevent")
    assert server.get(f"/leaves?{left}").body == b"left"
    server.wait_for_log("it has come")
    assert [server.get("/hello").status for _ in range(3)] == [200] * 3
    assert "Traceback" not in server.stderr_text()


def test_everybody_who_waits_hears_of_an_event(server_factory: ServerFactory, library: str) -> None:
    """A comet application, small here; `make soak` has a large one."""
    server = start(server_factory, library)
    (worker,) = workers(server, 1)
    assert broadcast(server, worker, COMET_CLIENTS).clients == COMET_CLIENTS


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_frameworks_run_under_green_threads(
    server_factory: ServerFactory, library: str, framework: str
) -> None:
    site = server_factory(f"apps.frameworks.{framework}_site", "-s1", f"--green={library}", "-l/dev/null")
    name = site.get("/hello/" + urllib.parse.quote(NAME))
    assert (name.status, name.body.decode()) == (200, f"Hello {NAME}")
    body = urllib.parse.urlencode({"text": NAME * 3_000}).encode()
    form = "Content-Type: application/x-www-form-urlencoded"
    length = f"Content-Length: {len(body)}"
    posted = site.request(message("POST /echo HTTP/1.1", HOST, CLOSE, form, length, body=body))
    assert (posted.status, posted.body.decode()) == (200, NAME * 3_000)
    with asked(site, *["/together?8"] * 8) as connections:
        assert {answer(connection) for connection in connections} == {(200, b"together")}
    assert site.get("/fail").status == 500


# Bodies


def test_pieces_of_a_body_arrive_in_order(server: Server) -> None:
    assert server.get("/stream").body == b"0\n1\n2\n3\n4\n"


def test_an_upload_that_comes_from_a_file_arrives_whole(server: Server) -> None:
    body = random.Random(1).randbytes(3 << 20)
    length = f"Content-Length: {len(body)}"
    stored = server.request(message("POST /upload HTTP/1.1", HOST, CLOSE, length, body=body), TIMEOUT_S)
    assert stored.body == f"{len(body)} {sum(body) % 65536}".encode()


def test_a_client_that_reads_slowly_holds_up_nobody(server: Server) -> None:
    with asked(server, "/large", "/write", "/large", "/write") as slow:
        for connection in slow:
            # The response has begun, and is far larger than what anybody keeps for the client.
            connection.recv(1, socket.MSG_PEEK)
        assert server.get("/hello").body == b"hello"
        bodies = [answer(connection) for connection in slow]
        assert [(status, len(body)) for status, body in bodies] == [(200, LARGE_BYTES)] * 4


def test_a_client_that_goes_away_ends_its_response(server: Server) -> None:
    with asked(server, "/large", "/write") as slow:
        for connection in slow:
            connection.recv(1, socket.MSG_PEEK)
    until(lambda: json.loads(server.get("/facts").body)["sending"] == 0)


def test_a_request_that_fails_is_a_500_and_the_next_is_served(server: Server) -> None:
    assert server.get("/fail").status == 500
    server.wait_for_log("RuntimeError: as asked")
    assert server.get("/hello").status == 200


# Limits


def test_no_more_requests_run_than_may(server_factory: ServerFactory, library: str, tmp_path: Path) -> None:
    """The next waits in the queue, and no longer than any other request may."""
    server = start(server_factory, library, "--green-requests-max=2", "--queue-timeout=1")
    gate = tmp_path / "gate"
    with asked(server, f"/gate?{gate}", f"/gate?{gate}") as running:
        for _ in running:
            server.wait_for_log(f"waits for {gate}")
        assert eventually(lambda: server.stderr_text().count("waits for") == 2)
        assert server.get("/hello").status == 503
        gate.touch()
        assert [answer(connection) for connection in running] == [(200, b"open")] * 2
    assert server.get("/hello").status == 200


def test_a_waiting_request_is_begun_when_another_has_ended(
    server_factory: ServerFactory, library: str, tmp_path: Path
) -> None:
    server = start(server_factory, library, "--green-requests-max=1")
    gate = tmp_path / "gate"
    with asked(server, f"/gate?{gate}") as (first,):
        server.wait_for_log(f"waits for {gate}")
        with asked(server, "/hello", "/stream") as (second, third):
            gate.touch()
            assert answer(first) == (200, b"open")
            assert answer(second) == (200, b"hello")
            assert answer(third)[0] == 200


def test_a_limit_on_open_files_that_is_too_low_is_told(server_factory: ServerFactory) -> None:
    server = server_factory(APP, "-s1", "-t0", wrapper=["prlimit", "--nofile=1000:1000"])
    server.wait_for_log(r"--green-requests-max: 16384 requests .* more than 1000")
    server.wait_for_log(r"hint: raise the hard limit")
    assert server.get("/hello").status == 200


def test_an_overdue_request_is_answered_504_with_its_own_stack(
    server_factory: ServerFactory, library: str, tmp_path: Path
) -> None:
    """Not with that of whichever green thread happens to run."""
    server = start(server_factory, library, "--request-timeout=1", "--deadman-timeout=600")
    (old,) = workers(server, 1)
    with asked(server, f"/gate?{tmp_path / 'gate'}") as (held,):
        assert answer(held)[0] == 504
    server.wait_for_log(r"a request is overdue.*request=\"GET /gate\?")
    server.wait_for_log(r"in wait_for_file")

    def another_serves() -> bool:
        response = server.get("/facts")
        # This request is overdue as well if the machine stands still.
        return response.status != 504 and json.loads(response.body)["pid"] != old

    assert eventually(another_serves)


def test_a_hub_that_never_turns_is_replaced(server_factory: ServerFactory, library: str) -> None:
    server = start(server_factory, library, "--stuck-timeout=3", "--deadman-timeout=1")
    (stuck,) = workers(server, 1)
    with asked(server, "/spin"):
        server.wait_for_log(r"replacing a worker.*\(--stuck-timeout\)", TIMEOUT_S)
        assert eventually(lambda: stuck not in server.processes())
    assert server.get("/hello").status == 200


# Ends


def test_a_draining_process_finishes_the_requests_it_holds(
    server_factory: ServerFactory, library: str, tmp_path: Path
) -> None:
    server = start(server_factory, library, "--deadman-timeout=600")
    gate = tmp_path / "gate"
    with asked(server, *[f"/gate?{gate}"] * 20) as held:
        assert eventually(lambda: server.stderr_text().count("waits for") == 20)
        server.signal(signal.SIGTERM)
        server.wait_for_log("draining")
        gate.touch()
        assert {answer(connection) for connection in held} == {(200, b"open")}
    assert server.wait() == 0
    assert server.processes() == []


def test_the_deadman_ends_what_waits_for_ever(
    server_factory: ServerFactory, library: str, tmp_path: Path
) -> None:
    server = start(server_factory, library, "--deadman-timeout=1")
    with asked(server, f"/gate?{tmp_path / 'gate'}"):
        server.wait_for_log("waits for")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert server.processes() == []


def test_an_orphan_ends_though_a_request_does_not(server_factory: ServerFactory, tmp_path: Path) -> None:
    server = start(server_factory, "eventlet", "--deadman-timeout=1")
    with asked(server, f"/gate?{tmp_path / 'gate'}"):
        server.wait_for_log("waits for")
        server.signal(signal.SIGKILL)
        assert eventually(lambda: server.processes() == [])
    assert "Fatal" not in server.stderr_text()


def test_a_worker_told_to_end_drains_and_is_replaced(
    server_factory: ServerFactory, library: str, tmp_path: Path
) -> None:
    """TERM for a worker alone, which must not be raised in whichever green thread runs."""
    server = start(server_factory, library, "--deadman-timeout=600")
    (old,) = workers(server, 1)
    gate = tmp_path / "gate"
    with asked(server, f"/gate?{gate}") as (held,):
        server.wait_for_log("waits for")
        os.kill(old, signal.SIGTERM)
        gate.touch()
        assert answer(held) == (200, b"open")
    assert eventually(lambda: old not in server.processes())
    assert json.loads(server.get("/facts").body)["pid"] != old
    assert "RuntimeError" not in server.stderr_text()


def test_a_reload_costs_no_request(server_factory: ServerFactory, library: str) -> None:
    server = start(server_factory, library)
    (first,) = workers(server, 1)
    with Load(server.address, "/stream") as load:
        for generation in (2, 3):
            server.signal(signal.SIGHUP)
            server.wait_for_log(rf"a new generation serves.*generation={generation}", TIMEOUT_S)
            load.wait_for_more(50)
        assert eventually(lambda: first not in server.processes())
    assert load.failures == []
    server.stop()


# Without the library


def test_a_library_that_is_missing_is_named_before_anything_is_bound(library: str, tmp_path: Path) -> None:
    hidden = f"import sys\nsys.modules[{library!r}] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hidden)
    ended = run_to_end(f"--green={library}", "--port=0", APP, environment={"PYTHONPATH": str(tmp_path)})
    assert ended.returncode == EX_USAGE
    lines = ended.stderr.splitlines()
    assert lines[0].endswith(f"green mode, needs the Python library {library}, which is not installed")
    assert lines[1] == "hint: pip install Spawning[green]"
    assert "listening" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--green=asyncio"], '--green: "asyncio" is neither eventlet nor gevent'),
        (["-t4", "--green=gevent"], "--green: gevent takes the place of threads, not beside 4"),
        (["-t0", "--green-requests-max=0"], "--green-requests-max: 0 is too small, at least 1"),
        (["-t0", "--green-requests-max=1000001"], "--green-requests-max: 1000001 is too large"),
    ],
)
def test_mistakes_are_named(arguments: list[str], fault: str) -> None:
    ended = run_to_end(*arguments, "--port=0", APP)
    assert (ended.returncode, ended.stderr.startswith(f"spawn: {fault}")) == (EX_USAGE, True), ended.stderr


@pytest.mark.parametrize("patched", LIBRARIES)
@pytest.mark.parametrize("mode", ["-t1", "-t4"])
def test_an_application_that_patches_threads_is_refused_where_real_ones_serve(
    tmp_path: Path, patched: str, mode: str
) -> None:
    patch = {
        "gevent": "from gevent import monkey\nmonkey.patch_all()\n",
        "eventlet": "import eventlet\neventlet.monkey_patch()\n",
    }
    (tmp_path / "patching.py").write_text(f"{patch[patched]}from apps.green import app\n")
    environment = {"PYTHONPATH": str(tmp_path)}
    ended = run_to_end("--port=0", "-s1", mode, "patching:app", environment=environment)
    assert ended.returncode == EX_SOFTWARE
    assert f"--green {patched}" in ended.stderr


def test_an_application_that_patches_as_the_server_does_is_served(
    server_factory: ServerFactory, library: str, tmp_path: Path
) -> None:
    patch = {
        "gevent": "from gevent import monkey\nmonkey.patch_all()\n",
        "eventlet": "import eventlet\neventlet.monkey_patch()\n",
    }
    (tmp_path / "patching.py").write_text(f"{patch[library]}from apps.green import app\n")
    environment = {"PYTHONPATH": str(tmp_path)}
    server = server_factory(
        "patching:app", "-s1", f"--green={library}", "-l/dev/null", environment=environment
    )
    assert server.get("/").status == 200
