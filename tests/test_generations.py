"""No deploy and no crash costs a request: generations from the outside."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

import spawning
import versions
from conftest import ServerFactory
from http_client import read_response
from load import DRAIN_IDLE_TIMEOUT_S, UNANSWERED, Connection, Load
from server import Server
from service import open_files
from test_process_life import accepting, eventually, held_request, listener, refused, workers
from versions import APP, ENVIRONMENT
from wire import HOST, message

VERSION = re.findall(
    rb'^version = "(.*)"', Path(__file__).parents[1].joinpath("Cargo.toml").read_bytes(), re.M
)[0]
RELOADS = 20
#: Ten stalls in a row, each at the wrong moment, are none.
ATTEMPTS = 10
SERVES = r"a new generation serves.*generation={}"

#: What a new version can do wrong while it is loaded, and what the log says of it.
BREAKAGES = {
    "raises": ("raise RuntimeError('no such table')", "no such table"),
    "syntax": ("def", "SyntaxError"),
    "imports-missing": (
        "import no_such_module_at_all",
        "it imports 'no_such_module_at_all', which does not exist",
    ),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "ends": ("import os; os._exit(3)", "exit status 3"),
    "dies": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    "hangs": ("import time; time.sleep(300)", "--start-timeout"),
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    versions.write(tmp_path, "v1")
    return tmp_path


def start(server_factory: ServerFactory, site: Path, *arguments: str) -> Server:
    return server_factory(APP, "-l/dev/null", *arguments, cwd=site, environment=ENVIRONMENT)


def supervisors(server: Server) -> list[int]:
    """The processes of the session that are nobody's children."""
    found = []
    for process in server.processes():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            command = Path(f"/proc/{process}/cmdline").read_bytes()
            if not re.search(rb"spawning\.(worker|status)", command):
                found.append(process)
    return found


# Reloads


def test_twenty_reloads_by_signal_fail_no_request(server_factory: ServerFactory, site: Path) -> None:
    server = start(server_factory, site, "-s2")
    with Load(server.address) as load:
        for version in range(2, RELOADS + 2):
            versions.write(site, f"v{version}")
            server.signal(signal.SIGHUP)
            load.wait_for(f"v{version}".encode())
    assert load.failures == []
    assert len(workers(server, 2)) == 2


def test_twenty_reloads_by_a_file_fail_no_request(server_factory: ServerFactory, site: Path) -> None:
    server = start(server_factory, site, "-s2", "--reload=dev")
    with Load(server.address) as load:
        for version in range(2, RELOADS + 2):
            versions.write(site, f"v{version}")
            load.wait_for(f"v{version}".encode())
    assert load.failures == []
    assert server.stderr_text().count("a new generation serves") == RELOADS, "once a change"


@pytest.mark.parametrize(("code", "reason"), BREAKAGES.values(), ids=BREAKAGES)
def test_a_version_that_cannot_be_loaded_costs_nothing(
    server_factory: ServerFactory, site: Path, code: str, reason: str
) -> None:
    """The old one serves every request, the log says why once, and the next good version is loaded."""
    # Long enough for the good version to load on a machine that stands still for seconds.
    start_timeout_s = 8 if reason == "--start-timeout" else 60
    server = start(server_factory, site, "-s2", f"--start-timeout={start_timeout_s}")
    before = workers(server, 2)
    with Load(server.address) as load:
        versions.write(site, "broken", before=code)
        server.signal(signal.SIGHUP)
        failed = server.wait_for_log(r"the reload failed.*").group()
        assert reason in failed
        load.wait_for_more(20)
        assert set(load.bodies) == {b"v1"}
        assert sorted(workers(server, 2)) == sorted(before)
        versions.write(site, "v3")
        server.signal(signal.SIGHUP)
        load.wait_for(b"v3")
    assert load.failures == []
    assert server.stderr_text().count("the reload failed") == 1
    assert b"broken" not in load.bodies


def test_an_idle_connection_gets_one_more_answer_from_a_worker_that_drains(
    server_factory: ServerFactory, site: Path
) -> None:
    """Its next request may be on its way when the worker is told to drain."""
    server = start(server_factory, site, "-s1")

    def answers(generation: int) -> bool:
        """Whether that was seen: not when the machine stood still for longer than the worker waits."""
        connection = Connection(server.address)
        versions.write(site, f"v{generation}")
        assert connection.ask(message("GET / HTTP/1.1", HOST)).body == f"v{generation - 1}".encode()
        server.signal(signal.SIGHUP)
        server.wait_for_log(SERVES.format(generation))
        last = None
        while last != "close":
            # Idle for a moment, in which the worker learns that it drains.
            time.sleep(0.1)
            try:
                response = connection.ask(message("GET / HTTP/1.1", HOST))
            except UNANSWERED:
                assert connection.came_late
                return False
            assert response.body == f"v{generation - 1}".encode()
            last = response.header("Connection")
        connection.assert_ended()
        return True

    assert any(answers(generation) for generation in range(2, ATTEMPTS + 2))


def test_an_idle_connection_is_not_closed_because_the_machine_stood_still(
    server_factory: ServerFactory, site: Path
) -> None:
    """The client may have stood still with it: it gets its full time again."""
    server = start(server_factory, site, "-s1")

    def answers(generation: int) -> bool:
        """Whether that was seen: not when the machine stood still while we did not want it to."""
        (old,), connection = workers(server, 1), Connection(server.address)
        its_socket, accepted_at = listener(server), time.monotonic()
        server.signal(signal.SIGHUP)
        try:
            while its_socket in open_files(old):
                accepted_at = time.monotonic()
            os.kill(old, signal.SIGSTOP)
        except (FileNotFoundError, ProcessLookupError):
            assert time.monotonic() - accepted_at > DRAIN_IDLE_TIMEOUT_S
            return False
        stopped_late = time.monotonic() - accepted_at > DRAIN_IDLE_TIMEOUT_S
        time.sleep(2 * DRAIN_IDLE_TIMEOUT_S)
        os.kill(old, signal.SIGCONT)
        went_on_at = time.monotonic()
        time.sleep(DRAIN_IDLE_TIMEOUT_S / 5)
        try:
            assert connection.ask(message("GET / HTTP/1.1", HOST)).header("Connection") == "close"
        except UNANSWERED:
            assert stopped_late or time.monotonic() - went_on_at > DRAIN_IDLE_TIMEOUT_S
            return False
        return True

    assert any(answers(generation) for generation in range(ATTEMPTS))


def test_a_connection_that_stays_idle_does_not_keep_a_worker(
    server_factory: ServerFactory, site: Path
) -> None:
    server = start(server_factory, site, "-s1", "--deadman-timeout=60")
    (old,) = workers(server, 1)
    with server.connect() as connection:
        connection.sendall(message("GET / HTTP/1.1", HOST))
        with connection.makefile("rb") as stream:
            read_response(stream)
            server.signal(signal.SIGHUP)
            assert stream.read() == b""
    assert eventually(lambda: old not in server.processes())


# The deadman


def test_a_drain_ends_at_the_deadman_whatever_clients_and_applications_do(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    """A request that takes for ever, a client that never reads, and an upload that never ends."""
    server = server_factory("apps.trouble:app", "-s1", "-l/dev/null", "--deadman-timeout=2")
    (old,) = workers(server, 1)
    with server.connect() as never_reads, server.connect() as never_ends:
        never_reads.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        never_reads.sendall(message("GET /endless HTTP/1.1", HOST))
        never_ends.sendall(message("POST /pid HTTP/1.1", HOST, "Content-Length: 100", body=b"x"))
        with held_request(server, tmp_path / "never-made"):
            server.signal(signal.SIGHUP)
            server.wait_for_log(SERVES.format(2))
            assert server.get("/pid").status == 200
            server.wait_for_log(r"did not drain in time")
            assert eventually(lambda: old not in server.processes())
    assert server.stderr_text().count("did not drain in time") == 1
    assert len(workers(server, 1)) == 1


# Crashes


def test_workers_killed_at_random_are_replaced_and_no_connect_is_refused(
    server_factory: ServerFactory, site: Path
) -> None:
    server = start(server_factory, site, "-s3")
    dice = random.Random(4)
    with Load(server.address) as load:
        for _ in range(8):
            victim = dice.choice(workers(server, 3))
            os.kill(victim, signal.SIGKILL)
            assert eventually(lambda victim=victim: victim not in server.processes())  # type: ignore[misc]
            load.wait_for_more(20)
        workers(server, 3)
        calm = time.monotonic()
        load.wait_for_more(200)
        assert [opened_at for opened_at in load.failed_from if opened_at > calm] == []
    assert not [failure for failure in load.failures if "refused" in failure.lower()]
    assert server.stderr_text().count("a worker died") == 8


# More and fewer processes


def test_ttin_and_ttou_change_the_number_of_processes(server_factory: ServerFactory, site: Path) -> None:
    server = start(server_factory, site, "-s2")
    first = workers(server, 2)
    with Load(server.address) as load:
        server.signal(signal.SIGTTIN)
        assert set(first) < set(workers(server, 3)), "nobody else was replaced"
        server.signal(signal.SIGHUP)
        server.wait_for_log(SERVES.format(2))
        second = workers(server, 3)
        for count in (2, 1):
            server.signal(signal.SIGTTOU)
            assert set(workers(server, count)) < set(second)
        server.signal(signal.SIGTTOU)
        server.wait_for_log("process count already at its limit.*processes=1")
        load.wait_for_more(50)
    assert load.failures == []
    server.stop()


def test_signals_that_mean_nothing_change_nothing(server_factory: ServerFactory, site: Path) -> None:
    server = start(server_factory, site, "-s1")
    before = server.processes()
    for number in (
        signal.SIGALRM,
        signal.SIGVTALRM,
        signal.SIGPROF,
        signal.SIGIO,
        signal.SIGWINCH,
    ):
        server.signal(number)
    assert server.get("/").body == b"v1"
    assert server.processes() == before
    server.stop()


def test_quit_stops_at_once(server_factory: ServerFactory, tmp_path: Path) -> None:
    server = server_factory("apps.processes:app", "-s2", "--deadman-timeout=600")
    with server.connect() as connection:
        connection.sendall(message(f"GET /held?{tmp_path / 'never-made'} HTTP/1.1", HOST))
        server.wait_for_log("held ")
        server.signal(signal.SIGQUIT)
        assert server.wait() == 0
    assert server.processes() == []


# What ps shows


def shown(server: Server) -> list[str]:
    """The names of the children of a server, and their command lines after the number of the descriptor."""
    lines = []
    for process in server.processes():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            words = Path(f"/proc/{process}/cmdline").read_text().split("\0")
            name = Path(f"/proc/{process}/comm").read_text().strip()
            for role in ("worker", "status"):
                if f"spawning.{role}" in words:
                    rest = words[words.index(f"spawning.{role}") + 2 : -1]
                    lines.append(" ".join([name, role, *rest]))
    return sorted(lines)


@pytest.mark.parametrize("mode", ["--threads=2", "--main-thread"])
def test_ps_shows_site_role_slot_and_generation(server_factory: ServerFactory, site: Path, mode: str) -> None:
    server = start(server_factory, site, "-s2", mode, "--status-port=0")

    def shows(generation: int) -> bool:
        return eventually(
            lambda: (
                shown(server)
                == [
                    f"spawn-status status {APP}",
                    f"worker-0-g{generation} worker {APP} slot=0 generation={generation}",
                    f"worker-1-g{generation} worker {APP} slot=1 generation={generation}",
                ]
            )
        )

    assert shows(1), shown(server)
    server.signal(signal.SIGHUP)
    assert shows(2), shown(server)
    victim = workers(server, 2)[0]
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: victim not in server.processes())
    assert shows(2), shown(server)
    server.signal(signal.SIGUSR2)
    assert server.wait() == 0
    assert shows(1), shown(server)
    (successor,) = supervisors(server)
    os.kill(successor, signal.SIGTERM)
    assert eventually(lambda: server.processes() == [])


# Another supervisor


def test_a_supervisor_is_replaced_there_and_back_without_a_failed_request(
    server_factory: ServerFactory, site: Path
) -> None:
    server = start(server_factory, site, "-s2")
    first = server.pid
    with Load(server.address) as load:
        versions.write(site, "v2")
        server.signal(signal.SIGUSR2)
        load.wait_for(b"v2")
        assert server.wait() == 0
        assert eventually(lambda: len(supervisors(server)) == 1)
        (second,) = supervisors(server)
        assert second != first
        versions.write(site, "v3")
        os.kill(second, signal.SIGUSR2)
        load.wait_for(b"v3")
        assert eventually(lambda: second not in server.processes())
        (third,) = supervisors(server)
        versions.write(site, "v4")
        os.kill(third, signal.SIGHUP)
        load.wait_for(b"v4")
        load.wait_for_more(50)
    assert load.failures == []
    os.kill(third, signal.SIGTERM)
    assert eventually(lambda: server.processes() == [])
    assert refused(server)


def test_a_new_version_of_the_package_takes_over_and_the_old_one_comes_back(
    server_factory: ServerFactory, site: Path, tmp_path: Path
) -> None:
    """As an installer would change it: other files, and another version in what the new supervisor says."""
    path = tmp_path / "packages"
    install(path, VERSION)
    environment = {**ENVIRONMENT, "PYTHONPATH": str(path)}
    server = server_factory(APP, "-s2", "-l/dev/null", cwd=site, environment=environment)
    last = server.pid
    with Load(server.address) as load:
        for version in (re.sub(rb"\d", b"9", VERSION), VERSION):
            install(path, version)
            versions.write(site, version.decode())
            os.kill(last, signal.SIGUSR2)
            load.wait_for(version)
            assert eventually(lambda: len(supervisors(server)) == 1)
            (last,) = supervisors(server)
            server.wait_for_log(rf"Spawning {version.decode()} .* pid {last}\b")
        load.wait_for_more(50)
    assert load.failures == []
    os.kill(last, signal.SIGTERM)
    assert eventually(lambda: server.processes() == [])


def install(path: Path, version: bytes) -> None:
    """Put a copy of the package there that says to be of another version, of the same length."""
    package = Path(spawning.__file__).parent
    staged = path / "staged"
    shutil.copytree(package, staged, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for library in package.glob("_core*.so"):
        (staged / library.name).write_bytes(library.read_bytes().replace(VERSION, version))
    if (path / "spawning").exists():
        (path / "spawning").rename(path / f"old-{time.monotonic_ns()}")
    staged.rename(path / "spawning")


def test_a_supervisor_whose_successor_fails_serves_on(server_factory: ServerFactory, site: Path) -> None:
    server = start(server_factory, site, "-s2")
    before = workers(server, 2)
    with Load(server.address) as load:
        versions.write(site, "broken", before="raise RuntimeError('no such table')")
        server.signal(signal.SIGUSR2)
        server.wait_for_log(r"the new supervisor exited before it was ready.*exit status 70")
        server.wait_for_log("no such table")
        load.wait_for_more(50)
        assert sorted(workers(server, 2)) == sorted(before)
        versions.write(site, "v3")
        server.signal(signal.SIGUSR2)
        load.wait_for(b"v3")
        assert server.wait() == 0
    assert load.failures == []


def test_stopping_a_supervisor_stops_the_one_that_was_to_replace_it(
    server_factory: ServerFactory, site: Path
) -> None:
    server = start(server_factory, site, "-s1")
    versions.write(site, "slow", before="print('loading', flush=True); import time; time.sleep(300)")
    server.signal(signal.SIGUSR2)
    server.wait_for_log("loading")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert eventually(lambda: server.processes() == [])


def test_the_first_worker_answers_while_nobody_drains(server_factory: ServerFactory, site: Path) -> None:
    """A reload that was asked for many times is done once it is quiet, with the newest code."""
    server = start(server_factory, site, "-s2")
    with Load(server.address) as load:
        for version in range(2, 12):
            versions.write(site, f"v{version}")
            server.signal(signal.SIGHUP)
            time.sleep(0.05)
        load.wait_for(b"v11")
    assert load.failures == []
    assert eventually(lambda: len(accepting(server)) == 2)
