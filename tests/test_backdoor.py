"""`--backdoor` and `spawn console`: a Python console in a worker, for the server's own user alone."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import TESTS, Server, spawn_command
from test_process_life import eventually, workers

EX_USAGE = 64
EX_UNAVAILABLE = 69
TIMEOUT_S = 60.0
NOBODY = 65534
MODES = [["-t2"], ["-t0"], ["--green=gevent"]]


def console(*arguments: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    """Run `spawn console` without a terminal."""
    return subprocess.run(
        spawn_command("console", *arguments),
        input=lines,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def said(server: Server, lines: str, *arguments: str) -> list[str]:
    """What a console prints, but for its greeting."""
    ended = console(f"--pid={server.pid}", *arguments, lines=lines)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    greeting, *rest = ended.stdout.splitlines()
    assert greeting.startswith("Python in worker ")
    return rest


def directory_of(server: Server) -> Path:
    return Path(os.environ.get("TMPDIR") or "/tmp", f"spawning-{server.pid}")


def sockets(server: Server) -> list[Path]:
    return sorted(directory_of(server).glob("console-*"))


@pytest.fixture(params=MODES, ids=lambda mode: mode[0])
def server(request: pytest.FixtureRequest, server_factory: ServerFactory) -> Server:
    return server_factory("apps.green:app", "-s1", "--backdoor", "-l/dev/null", *request.param)


def test_expressions_are_evaluated_in_the_worker(server: Server) -> None:
    (worker,) = workers(server, 1)
    assert said(server, "import os\nos.getpid()\n") == [str(worker)]


def test_the_applications_state_can_be_seen_and_changed(server: Server) -> None:
    lines = "from apps import green\ngreen.waiting\ngreen.waiting = 7\napp is not None\n"
    assert said(server, lines) == ["0", "True"]
    assert server.get("/count").body == b"7"


def test_blocks_and_prints_and_names_work(server: Server) -> None:
    lines = "for i in range(2):\n    print('line', i)\n\n6 * 7\n_ + 1\nx = 'a\\0b'\nprint(x)\n"
    assert said(server, lines) == ["line 0", "line 1", "42", "43", "a\\0b"]
    assert said(server, "def f():\n    return 5\n\nf()\n") == ["5"]
    # Nothing of it is in the access log's stream.
    assert server.stdout_text() == ""


def test_errors_are_shown_and_the_console_goes_on(server: Server) -> None:
    lines = said(server, "1 / 0\nfrom\n'still here'\n")
    assert "ZeroDivisionError: division by zero" in lines
    assert any(line.startswith("SyntaxError") for line in lines)
    assert lines[-1] == "'still here'"
    assert not [line for line in lines if "backdoor.py" in line]


def test_exit_ends_the_console_and_not_the_worker(server: Server) -> None:
    (worker,) = workers(server, 1)
    assert said(server, "import sys\nsys.exit()\n'never'\n") == []
    assert workers(server, 1) == [worker]
    assert server.get("/hello").status == 200


def test_the_server_serves_while_a_console_is_open(server: Server) -> None:
    (path,) = sockets(server)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        assert connection.recv(1024)
        assert server.get("/hello").body == b"hello"
        # An open console does not hold up the end either.
        server.stop()


def test_the_socket_is_for_its_user_alone_and_gone_in_the_end(server: Server) -> None:
    (path,) = sockets(server)
    assert path.is_socket()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    server.stop()
    assert not path.parent.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused(server_factory: ServerFactory) -> None:
    server = server_factory("apps.hello:app", "-s1", "--backdoor")
    (path,) = sockets(server)
    # Even where the directory would let others through.
    path.parent.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as connection:
        os.seteuid(NOBODY)
        try:
            with pytest.raises(PermissionError):
                connection.connect(str(path))
        finally:
            os.seteuid(0)


def test_each_slot_has_its_console(server_factory: ServerFactory) -> None:
    server = server_factory("apps.hello:app", "-s2", "--backdoor")
    assert eventually(lambda: len(sockets(server)) == 2)
    pids = {said(server, "import os\nos.getpid()\n", f"--slot={slot}")[0] for slot in (0, 1)}
    assert pids == {str(pid) for pid in workers(server, 2)}
    ended = console(f"--pid={server.pid}", "--slot=7")
    assert ended.returncode == EX_UNAVAILABLE
    assert "no worker in slot 7 has a console" in ended.stderr


def test_after_a_reload_the_new_worker_answers(server_factory: ServerFactory, tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    server = server_factory("apps.hello:app", "-s1", "--backdoor", f"--pidfile={pidfile}")
    (first,) = workers(server, 1)
    server.signal(signal.SIGHUP)
    server.wait_for_log("a new generation serves.*generation=2")
    ended = console(f"--pidfile={pidfile}", lines="import os\nos.getpid()\n")
    assert int(ended.stdout.splitlines()[1]) != first
    assert eventually(lambda: len(sockets(server)) == 1)


def test_a_terminal_is_prompted(server_factory: ServerFactory) -> None:
    server = server_factory("apps.hello:app", "-s1", "--backdoor")
    primary, secondary = pty.openpty()
    command = spawn_command("console", f"--pid={server.pid}")
    with subprocess.Popen(command, stdin=secondary, stdout=secondary, stderr=secondary) as client:
        os.close(secondary)
        shown = b""

        def read_until(text: bytes) -> None:
            nonlocal shown
            while text not in shown:
                assert select.select([primary], [], [], TIMEOUT_S)[0], shown
                shown += os.read(primary, 4096)
            shown = shown.partition(text)[2]

        read_until(b">>> ")
        os.write(primary, b"6 * 7\n")
        read_until(b"42")
        # Before it asks, a terminal would take the end of the input for an empty line.
        read_until(b">>> ")
        os.write(primary, b"\x04")
        assert client.wait(TIMEOUT_S) == 0
    os.close(primary)


def test_a_server_without_a_console_is_told(server_factory: ServerFactory) -> None:
    server = server_factory("apps.hello:app", "-s1")
    ended = console(f"--pid={server.pid}")
    assert ended.returncode == EX_UNAVAILABLE
    assert ended.stderr.splitlines() == [
        f"spawn console: process {server.pid} has no console",
        "hint: start the server with --backdoor",
    ]


def test_mistakes_end_with_the_status_of_mistakes() -> None:
    ended = console("--slot=first")
    assert ended.returncode == EX_USAGE
    assert "hint: see spawn console --help" in ended.stderr


def test_an_application_called_console_is_served(server_factory: ServerFactory, tmp_path: Path) -> None:
    (tmp_path / "console.py").write_text((TESTS / "apps" / "covered.py").read_text())
    assert server_factory("console.app", "-s1", cwd=tmp_path).get("/called").body == b"called"
