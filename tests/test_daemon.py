"""The server as a service: in the background, as another user, watched by systemd, with rotated logs, and as
process 1."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import spawning
from conftest import ServerFactory
from server import TESTS, Server, run_to_end, spawn_command
from service import (
    TIMEOUT_S,
    Daemon,
    Systemd,
    children,
    eventually,
    listens,
    nobody_can_run,
    open_files,
    status,
    unix_get,
    unprivileged,
)

__all__ = ["unprivileged"]

EX_USAGE = 64
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
DEPLOY = Path(__file__).parent.parent / "docs" / "deploy"
AS_NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a unix socket may be."""
    return tmp_path / "http.sock"


# === In the background ===


def test_the_command_returns_when_the_application_serves(tmp_path: Path, path: Path) -> None:
    with Daemon(tmp_path, "-s2", f"-bunix:{path}", "apps.hello:app") as daemon:
        assert daemon.started.returncode == 0, daemon.started
        # At once, without another try.
        assert unix_get(path).body == b"Hello"
        greeting, listening, ready = daemon.started.stderr.splitlines()
        assert greeting.endswith(f"pid {daemon.pid}")
        assert listening == f"listening on unix:{path}"
        assert ready.startswith("ready: 2 processes")
        assert daemon.started.stdout == ""
        daemon.signal(signal.SIGTERM)
        assert daemon.ended()
        assert not path.exists()
        assert not daemon.pid_file.exists()


def test_a_daemon_belongs_to_no_terminal_session_or_group_of_its_starter(tmp_path: Path, path: Path) -> None:
    with Daemon(tmp_path, "-s1", f"-bunix:{path}", "apps.hello:app") as daemon:
        pid = daemon.pid
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        parent, group, session, terminal = (int(field) for field in fields[1:5])
        assert terminal == 0
        assert session == group
        # Not the leader of its session, or it could get a terminal by opening one.
        assert session not in (pid, os.getsid(0))
        assert parent != os.getpid()
        assert Path(f"/proc/{pid}/cwd").readlink() == TESTS


def test_a_daemon_holds_nothing_of_its_starter_open(tmp_path: Path, path: Path) -> None:
    """Else a pipe that the command is part of would never end: `Daemon` reads one to its end."""
    with Daemon(tmp_path, "-s1", f"-bunix:{path}", "apps.hello:app") as daemon:
        for process in (daemon.pid, *daemon.workers()):
            streams = [Path(f"/proc/{process}/fd/{number}").readlink() for number in range(3)]
            assert streams == [Path("/dev/null")] * 3
            assert not [link for link in open_files(process) if link.startswith("pipe:")]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-p0", "apps.broken.raises:app"], EX_SOFTWARE, "RuntimeError: raised at import"),
        (["-b192.0.2.1:80", "apps.hello:app"], EX_UNAVAILABLE, "cannot listen on 192.0.2.1:80"),
        (["-p70000", "apps.hello:app"], EX_USAGE, "at most 65535"),
        (["-p0", "--chuid=no-such-user", "apps.hello:app"], EX_USAGE, 'there is no user "no-such-user"'),
    ],
)
def test_a_start_that_fails_is_the_commands_failure(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    log = tmp_path / "error.log"
    with Daemon(tmp_path, "-s1", f"--stderr={log}", *arguments) as daemon:
        assert daemon.started.returncode == code, daemon.started
        assert message in daemon.started.stderr
        assert not daemon.pid_file.exists()
    if code == EX_SOFTWARE:
        assert message in log.read_text()


def test_a_command_that_is_broken_off_leaves_no_server(tmp_path: Path, path: Path) -> None:
    """The application waits for a file; meanwhile somebody loses patience."""
    gate, pid_file = tmp_path / "gate", tmp_path / "spawn.pid"
    command = subprocess.Popen(
        spawn_command("-d", f"--pidfile={pid_file}", "-s1", f"-bunix:{path}", "apps.waits:app"),
        cwd=TESTS,
        env={**os.environ, "GATE": str(gate)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        assert eventually(lambda: listens(path))
        pid = int(pid_file.read_text())
        command.kill()
        command.wait()
        gate.touch()
        assert eventually(lambda: not Path(f"/proc/{pid}").exists())
        assert not path.exists()
    finally:
        command.kill()
        command.communicate()


def test_a_server_that_is_stopped_before_it_serves_is_a_failed_command(tmp_path: Path, path: Path) -> None:
    pid_file = tmp_path / "spawn.pid"
    command = subprocess.Popen(
        spawn_command("-d", f"--pidfile={pid_file}", "-s1", f"-bunix:{path}", "apps.waits:app"),
        cwd=TESTS,
        env={**os.environ, "GATE": str(tmp_path / "gate")},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert eventually(lambda: listens(path))
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
        _, said = command.communicate(timeout=TIMEOUT_S)
        assert command.returncode == EX_UNAVAILABLE
        assert said.endswith("spawn: the server was stopped before it was ready\n")
    finally:
        command.kill()
        command.wait()


def test_a_daemon_is_replaced_by_another_that_inherits_its_files(tmp_path: Path, path: Path) -> None:
    with Daemon(
        tmp_path, "-s1", f"-bunix:{path}", f"--stderr={tmp_path / 'log'}", "apps.hello:app"
    ) as daemon:
        assert daemon.started.returncode == 0, daemon.started
        first = daemon.pid
        daemon.signal(signal.SIGUSR2)
        assert daemon.ended()
        second = daemon.pid
        assert second != first
        try:
            assert unix_get(path).body == b"Hello"
            held = run_to_end("-p0", f"--pidfile={daemon.pid_file}", "apps.hello:app")
            assert held.returncode == EX_UNAVAILABLE, held
        finally:
            os.kill(second, signal.SIGTERM)
        assert eventually(lambda: not Path(f"/proc/{second}").exists())
        assert not path.exists()
        assert not daemon.pid_file.exists()


def test_systemd_is_told_of_a_supervisor_that_replaces_another(
    server_factory: ServerFactory, systemd: Systemd
) -> None:
    server = server_factory("apps.hello:app", "-s1", environment={"NOTIFY_SOCKET": systemd.variable})
    assert "READY" in systemd.next()
    server.signal(signal.SIGUSR2)
    messages = [systemd.next(), systemd.next()]
    (pid,) = [int(message["MAINPID"]) for message in messages if "MAINPID" in message]
    assert server.wait() == 0
    assert server.get("/").body == b"Hello"
    os.kill(pid, signal.SIGTERM)
    assert systemd.next()["STOPPING"] == "1"


# === The pid file ===


def test_a_pid_file_is_there_while_the_server_lives(server_factory: ServerFactory, tmp_path: Path) -> None:
    pid_file = tmp_path / "spawn.pid"
    server = server_factory("apps.hello:app", "-s1", f"--pidfile={pid_file}")
    assert pid_file.read_text() == f"{server.pid}\n"
    second = run_to_end("-p0", f"--pidfile={pid_file}", "apps.hello:app")
    assert second.returncode == EX_UNAVAILABLE, second
    assert f"--pidfile: {pid_file} is held by process {server.pid}, which is alive" in second.stderr
    assert f"hint: stop it first: kill {server.pid}" in second.stderr
    assert pid_file.read_text() == f"{server.pid}\n"
    server.stop()
    assert not pid_file.exists()


def test_the_pid_file_of_a_dead_server_is_taken_over(server_factory: ServerFactory, tmp_path: Path) -> None:
    """Even when its number is that of a living process, as after a restart of the machine."""
    pid_file = tmp_path / "spawn.pid"
    pid_file.write_text(f"{os.getpid()}\n")
    server = server_factory("apps.hello:app", "-s1", f"--pidfile={pid_file}")
    assert pid_file.read_text() == f"{server.pid}\n"
    server.kill()
    assert pid_file.exists()
    server = server_factory("apps.hello:app", "-s1", f"--pidfile={pid_file}")
    assert pid_file.read_text() == f"{server.pid}\n"


def test_a_pid_file_that_belongs_to_another_server_stays(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    pid_file = tmp_path / "spawn.pid"
    first = server_factory("apps.hello:app", "-s1", f"--pidfile={pid_file}")
    pid_file.unlink()
    second = server_factory("apps.hello:app", "-s1", f"--pidfile={pid_file}")
    first.stop()
    assert pid_file.read_text() == f"{second.pid}\n"


# === As another user ===


def test_privileges_are_dropped_after_the_bind_and_for_good(unprivileged: Path) -> None:
    path, log = unprivileged / "http.sock", unprivileged / "error.log"
    access = unprivileged / "access.log"
    # Closed to everybody else: only root can have bound and opened these.
    unprivileged.chmod(0o711)
    arguments = [f"-bunix:{path}", f"--stderr={log}", f"-l{access}", "--chuid=nobody"]
    with Daemon(unprivileged, "-s1", *arguments, "apps.identity:app") as daemon:
        assert daemon.started.returncode == 0, daemon.started
        who = json.loads(unix_get(path, "/who").body)
        nobody = path.stat()
        assert (path.owner(), path.group()) == ("nobody", "nogroup")
        assert who == {
            "users": [nobody.st_uid] * 3,
            "groups": [nobody.st_gid] * 3,
            "supplementary": [nobody.st_gid],
            "regained": [],
        }
        for process in (daemon.pid, *daemon.workers()):
            found = status(process)
            assert found["Uid"] == [str(nobody.st_uid)] * 4
            assert found["Gid"] == [str(nobody.st_gid)] * 4
            assert found["Groups"] == [str(nobody.st_gid)]
            assert int(found["CapPrm"][0], 16) == int(found["CapEff"][0], 16) == 0
        unix_get(path, "/say?still%20open")
        assert eventually(lambda: "still%20open" in log.read_text())
        assert eventually(lambda: "GET /say" in access.read_text())
        assert log.owner() == access.owner() == "nobody"
        daemon.signal(signal.SIGTERM)
        assert daemon.ended()
        # Its directory is closed to it now, so the file could not be removed; but it names nobody.
        assert daemon.pid_file.read_text() == ""


def names_another(pid_file: Path, pid: int) -> bool:
    """Whether a pid file holds the number of a process, but not that one."""
    return pid_file.read_text() not in ("", f"{pid}\n")


def test_every_signal_finds_a_server_that_may_not_write_where_its_files_are(tmp_path: Path) -> None:
    """As in /run and /var/log: pid file, log and socket were made by root, who is gone."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    package = str(Path(spawning.__file__).parents[1])
    program = f"import sys; sys.path.insert(0, {package!r}); import spawning._core"
    pythons = (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    python = next((python for python in pythons if nobody_can_run(python, program)), None)
    if python is None:
        pytest.skip("nobody cannot run this package in a Python of this version")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "app.py").write_text(
            "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'Hello']\n"
        )
        pid_file, log, path = (directory / name for name in ("pid", "log", "http.sock"))
        log.touch(0o644)
        options = ["-d", "-s1", "-unobody", f"-bunix:{path}", f"--pidfile={pid_file}", f"--stderr={log}"]
        started = subprocess.run(
            [python, "-m", "spawning", *options, "app:app"],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": package},
            capture_output=True,
            check=False,
            text=True,
        )
        assert started.returncode == 0, started.stderr
        last = int(pid_file.read_text())
        try:
            for _ in range(2):
                os.kill(last, signal.SIGHUP)
                os.kill(last, signal.SIGUSR1)
                os.kill(last, signal.SIGUSR2)
                assert eventually(partial(names_another, pid_file, last)), log.read_text()
                last = int(pid_file.read_text())
                assert unix_get(path).body == b"Hello"
        finally:
            os.kill(last, signal.SIGTERM)
        assert eventually(lambda: pid_file.read_text() == ""), log.read_text()


def test_the_groups_of_the_starter_are_not_kept(unprivileged: Path) -> None:
    path = unprivileged / "http.sock"
    command = ["setpriv", "--groups=0,4,24", *spawn_command("-s1", f"-bunix:{path}", "-u54321:54322")]
    process = subprocess.Popen([*command, "apps.identity:app"], cwd=TESTS, stderr=subprocess.DEVNULL)
    try:
        assert eventually(lambda: listens(path))
        who = json.loads(unix_get(path, "/who").body)
        assert who == {
            "users": [54321] * 3,
            "groups": [54322] * 3,
            "supplementary": [54322],
            "regained": [],
        }
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


def test_a_privileged_port_is_bound_before_the_drop(
    unprivileged: Path, server_factory: ServerFactory
) -> None:
    server = server_factory("apps.hello:app", "-s1", "-p80", "-unobody", wrapper=["unshare", "--net"])
    assert server.address == ("127.0.0.1", 80)


def test_only_root_may_become_another_user(unprivileged: Path) -> None:
    ended = run_to_end("-p0", "--chuid=nobody", "apps.hello:app", wrapper=AS_NOBODY)
    assert ended.returncode == EX_USAGE, ended
    message, hint = ended.stderr.splitlines()
    assert message.startswith("spawn: --chuid: only root may become another user, and this is user ")
    assert hint.startswith("hint: start the server as root")


def test_a_log_that_the_user_may_not_write_is_named_before_anything_serves(unprivileged: Path) -> None:
    log = unprivileged / "access.log"
    log.touch(0o600)
    ended = run_to_end("-p0", "--chuid=nobody", f"-l{log}", "apps.hello:app")
    assert ended.returncode == 71, ended
    assert f"spawn: --chuid: nobody cannot write {log}: Permission denied" in ended.stderr
    assert f"hint: chown nobody {log}" in ended.stderr
    assert log.owner() == "root"


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        ("", "the user is missing"),
        ("nobody:", "the group is missing"),
        ("nobody:a:b", "more than one colon"),
        ("no-such-user", 'there is no user "no-such-user"'),
        ("root:no-such-group", 'there is no group "no-such-group"'),
        ("54321", "no group is given"),
    ],
)
def test_a_user_that_cannot_be_is_named_with_the_fault(word: str, fault: str) -> None:
    ended = run_to_end("-p0", f"--chuid={word}", "apps.hello:app")
    assert ended.returncode == EX_USAGE, ended
    message, hint = ended.stderr.splitlines()
    assert message.startswith("spawn: --chuid: ")
    assert fault in message
    assert hint.startswith("hint: ")


# === Output files ===


def holds(process: int, *files: Path) -> bool:
    """Whether a process has all these files open."""
    return set(files) <= {Path(link) for link in open_files(process)}


def test_output_goes_to_files_and_the_start_to_the_terminal_too(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    out, err = tmp_path / "out.log", tmp_path / "err.log"
    out.write_text("kept\n")
    server = server_factory("apps.identity:app", "-s1", f"--stdout={out}", f"--stderr={err}")

    def told() -> list[str]:
        """What the lines of the file say, each of which has its time there."""
        return re.findall(r'^time=\S+ level=INFO pid=\d+ message="(.*)"$', err.read_text(), re.MULTILINE)

    assert eventually(lambda: told() == server.stderr_text().splitlines())
    assert len(err.read_text().splitlines()) == 3
    server.get("/say?words")
    assert eventually(lambda: err.read_text().endswith("words\n"))
    server.stop()
    kept, said, *access = out.read_text().splitlines()
    assert (kept, said) == ("kept", "words")
    assert access[0].startswith("127.0.0.1 - - [")
    assert server.stdout_text() == ""
    assert "words" not in server.stderr_text()


def test_usr1_reopens_every_file_and_loses_no_line(server_factory: ServerFactory, tmp_path: Path) -> None:
    names = ["out", "err", "access"]
    files = {name: tmp_path / name for name in names}
    server = server_factory(
        "apps.identity:app",
        "-s2",
        f"--stdout={files['out']}",
        f"--stderr={files['err']}",
        f"--access-log-file={files['access']}",
    )
    workers = children(server.pid)
    for turn in range(3):
        for index in range(20):
            server.get(f"/say?turn-{turn}-{index}")
        for name in names:
            (tmp_path / name).rename(tmp_path / f"{name}.{turn}")
        server.signal(signal.SIGUSR1)
        # Files appear without any request.
        assert eventually(lambda: all(file.exists() for file in files.values()))
        for process in (server.pid, *workers):
            assert eventually(partial(holds, process, files["out"], files["err"]))
        for worker in workers:
            assert eventually(partial(holds, worker, files["access"]))
    server.get("/say?last")
    server.stop()
    assert "a worker died" not in server.stderr_text()
    for name in names:
        everything = "".join((tmp_path / f"{name}.{turn}").read_text() for turn in range(3))
        everything += files[name].read_text()
        for turn in range(3):
            for index in range(20):
                assert (
                    everything.count(
                        f"turn-{turn}-{index}\n" if name != "access" else f"turn-{turn}-{index} "
                    )
                    == 1
                )
        assert "last" in files[name].read_text()


def test_usr1_does_not_harm_a_worker(server_factory: ServerFactory) -> None:
    """`systemctl kill` sends a signal to every process of a service."""
    server = server_factory("apps.hello:app", "-s2")
    workers = children(server.pid)
    for worker in workers:
        os.kill(worker, signal.SIGUSR1)
    server.signal(signal.SIGUSR1)
    server.wait_for_log("log files reopened")
    assert server.get("/").body == b"Hello"
    assert children(server.pid) == workers


def test_a_file_that_cannot_be_reopened_is_written_to_as_before(
    unprivileged: Path,
) -> None:
    path, access = unprivileged / "http.sock", unprivileged / "access.log"
    log = unprivileged / "error.log"
    unprivileged.chmod(0o711)
    arguments = [f"-bunix:{path}", f"--stderr={log}", f"-l{access}", "--chuid=nobody"]
    with Daemon(unprivileged, "-s1", *arguments, "apps.hello:app") as daemon:
        assert daemon.started.returncode == 0, daemon.started
        moved = access.rename(unprivileged / "access.log.1")
        daemon.signal(signal.SIGUSR1)
        assert eventually(lambda: "cannot reopen access log" in log.read_text())
        assert "hint=" in log.read_text()
        unix_get(path, "/late")
        assert eventually(lambda: "GET /late" in moved.read_text())


# === systemd ===


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    """Somebody behind NOTIFY_SOCKET."""
    name = f"@spawning-notify-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    systemd = Systemd(name)
    yield systemd
    systemd.close()


def test_systemd_is_told_of_readiness_reload_and_stop(
    server_factory: ServerFactory, systemd: Systemd, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    environment = {"NOTIFY_SOCKET": systemd.variable, "BROKEN": str(broken)}
    server = server_factory("apps.breakable:app", "-s2", environment=environment)
    ready = systemd.next()
    assert ready["READY"] == "1"
    assert ready["STATUS"].startswith("ready: 2 processes")

    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    server.signal(signal.SIGHUP)
    reloading = systemd.next()
    assert reloading["RELOADING"] == "1"
    after_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert before_us <= int(reloading["MONOTONIC_USEC"]) <= after_us
    assert systemd.next() == {"READY": "1", "STATUS": "generation 2 serves"}

    broken.touch()
    server.signal(signal.SIGHUP)
    assert systemd.next()["RELOADING"] == "1"
    failed = systemd.next()
    assert failed["READY"] == "1"
    assert failed["STATUS"].startswith("the reload failed; previous generation still serving: ")
    assert "broken on purpose" in failed["STATUS"]

    server.signal(signal.SIGTERM)
    assert systemd.next()["STOPPING"] == "1"
    assert server.wait() == 0


def test_systemd_is_told_why_nothing_serves(tmp_path: Path) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    ended = run_to_end(
        "-p0", "-s1", "apps.broken.raises:app", environment={"NOTIFY_SOCKET": systemd.variable}
    )
    assert ended.returncode == EX_SOFTWARE
    message = systemd.next()
    assert "READY" not in message
    assert "raised at import" in message["STATUS"]
    systemd.close()


def test_a_watchdog_sees_life_in_half_its_time(server_factory: ServerFactory, tmp_path: Path) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    environment = {"NOTIFY_SOCKET": systemd.variable, "WATCHDOG_USEC": "1000000"}
    server_factory("apps.hello:app", "-s1", environment=environment)
    messages: list[dict[str, str]] = []
    while messages.count({"WATCHDOG": "1"}) < 4:
        messages.append(systemd.next())
    others = [message for message in messages if "WATCHDOG" not in message]
    assert [message["READY"] for message in others] == ["1"]
    systemd.close()


def test_a_watchdog_of_another_process_is_left_alone(server_factory: ServerFactory, tmp_path: Path) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    environment = {"NOTIFY_SOCKET": systemd.variable, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    server = server_factory("apps.hello:app", "-s1", environment=environment)
    assert systemd.next()["READY"] == "1"
    server.signal(signal.SIGTERM)
    assert systemd.next()["STOPPING"] == "1"
    systemd.close()


def test_workers_see_nothing_of_what_systemd_tells_the_supervisor(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    environment = {
        "NOTIFY_SOCKET": systemd.variable,
        "WATCHDOG_USEC": "60000000",
        "WATCHDOG_PID": "1",
        "LISTEN_FDS": "1",
        "LISTEN_PID": "1",
        "LISTEN_FDNAMES": "web",
    }
    server = server_factory("apps.identity:app", "-s1", environment=environment)
    assert server.get("/variables").body == b"{}"
    systemd.close()


# === Process 1 ===


@pytest.fixture
def process_1(server_factory: ServerFactory) -> tuple[Server, int]:
    """A server that is process 1 of its own namespace, as in a container, and its process id outside."""
    wrapper = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*wrapper, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this user cannot make a process namespace")
    server = server_factory("apps.identity:app", "-s1", wrapper=wrapper)
    server.wait_for_log(r"pid 1$")
    (pid,) = children(server.pid)
    return server, pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_process_1_stops_when_told_so(process_1: tuple[Server, int], number: signal.Signals) -> None:
    server, pid = process_1
    os.kill(pid, number)
    assert server.wait() == 0
    assert not server.processes()


def test_process_1_reloads(process_1: tuple[Server, int]) -> None:
    server, pid = process_1
    os.kill(pid, signal.SIGHUP)
    server.wait_for_log("a new generation serves")
    assert server.get("/variables").status == 200


def test_process_1_reaps_orphans(process_1: tuple[Server, int]) -> None:
    server, pid = process_1
    workers = children(pid)
    server.get("/orphan?600")
    assert eventually(lambda: len(children(pid)) == 2), "the orphan is its child now"
    (orphan,) = set(children(pid)) - set(workers)
    os.kill(orphan, signal.SIGKILL)
    assert eventually(lambda: children(pid) == workers), "and gone when it has ended, not a zombie"
    assert server.get("/variables").status == 200


def test_process_1_fails_with_the_code_of_its_failure() -> None:
    wrapper = ["unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*wrapper, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this user cannot make a process namespace")
    ended = run_to_end("-p0", "-s1", "apps.broken.raises:app", wrapper=wrapper)
    assert ended.returncode == EX_SOFTWARE, ended


# === The examples of docs/deploy ===


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_units_are_right(tmp_path: Path) -> None:
    spawn = Path(sys.executable).with_name("spawn")
    for name in ("mysite.service", "mysite.socket"):
        text = (DEPLOY / name).read_text().replace("/srv/mysite/venv/bin/spawn", str(spawn))
        (tmp_path / name).write_text(text)
    units = [str(tmp_path / name) for name in ("mysite.service", "mysite.socket")]
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    complaints = [line for line in verified.stderr.splitlines() if "mysite" in line]
    assert (verified.returncode, complaints) == (0, []), verified.stderr


@pytest.mark.skipif(not shutil.which("systemd-tmpfiles"), reason="systemd is not installed")
def test_the_directories_are_made(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give directories away")
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0::/:/bin/sh\nmysite:x:54321:54321::/srv/mysite:/bin/sh\n")
    (etc / "group").write_text("root:x:0:\nmysite:x:54321:\nwww-data:x:54322:\n")
    subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(DEPLOY / "mysite.tmpfiles")], check=True
    )
    for name, mode in (("run/mysite", 0o755), ("var/log/mysite", 0o750)):
        found = (tmp_path / name).stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (54321, 54322, mode)


@pytest.mark.skipif(not shutil.which("logrotate"), reason="logrotate is not installed")
def test_the_logs_are_rotated_without_losing_a_line(unprivileged: Path) -> None:
    """With the example itself, but for its paths, its user and the way to the supervisor."""
    logs = unprivileged / "logs"
    logs.mkdir()
    shutil.chown(logs, "nobody", "nogroup")
    path, access = unprivileged / "http.sock", logs / "access.log"
    arguments = [f"-bunix:{path}", f"-l{access}", "--chuid=nobody"]
    with Daemon(unprivileged, "-s2", *arguments, "apps.hello:app") as daemon:
        assert daemon.started.returncode == 0, daemon.started
        settings = (
            (DEPLOY / "mysite.logrotate")
            .read_text()
            .replace("/var/log/mysite", str(logs))
            .replace("mysite www-data", "nobody nogroup")
            .replace(
                "systemctl kill --kill-who=main --signal=USR1 mysite.service", f"kill -USR1 {daemon.pid}"
            )
        )
        (unprivileged / "settings").write_text(settings)
        (unprivileged / "settings").chmod(0o644)
        command = ["logrotate", "--state", str(unprivileged / "state"), str(unprivileged / "settings")]
        assert subprocess.run([*command, "--debug"], check=True, capture_output=True)
        for index in range(10):
            unix_get(path, f"/before-{index}")
        assert eventually(lambda: access.read_text().count("GET /before-") == 10)
        subprocess.run([*command, "--force"], check=True)
        old = logs / "access.log.1"
        assert old.read_text().count("GET /before-") == 10
        for worker in daemon.workers():
            assert eventually(partial(holds, worker, access))
        for index in range(10):
            unix_get(path, f"/after-{index}")
        assert eventually(lambda: access.read_text().count("GET /after-") == 10)
        assert old.read_text().count("GET /after-") == 0
        assert (access.owner(), access.stat().st_mode & 0o777) == ("nobody", 0o640)
