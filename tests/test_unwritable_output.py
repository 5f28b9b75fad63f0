"""Standard output and error that cannot be written: lines are lost and counted, and nothing else happens."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from server import STOP_TIMEOUT_S, TESTS, spawn_command
from service import children, eventually, listens, unix_get

APP = "apps.prints:app"
#: More than a pipe and the queue of a process hold.
MANY_EXCEPTIONS = 400


class Printing:
    """A server on a unix socket whose standard streams lead where the test says."""

    def __init__(self, address: Path, *arguments: str, stdout: IO[Any] | int, stderr: IO[Any] | int) -> None:
        self.address = address
        self.process = subprocess.Popen(
            spawn_command("-s1", f"-bunix:{address}", "-l/dev/null", *arguments, APP),
            cwd=TESTS,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )

    def pid_of_worker(self) -> int:
        """Ask the worker that serves."""
        response = unix_get(self.address)
        assert response.status == 200
        return int(response.body)

    def serves(self) -> bool:
        """Whether a worker answers."""
        with contextlib.suppress(OSError):
            return listens(self.address) and unix_get(self.address).status == 200
        return False

    def new_worker(self, old: int) -> bool:
        """Whether another worker serves in its place."""
        return eventually(lambda: self.serves() and self.pid_of_worker() != old)

    def lives_through_everything(self) -> None:
        """Exceptions, prints, the death of a worker, a reload and the end."""
        assert eventually(self.serves)
        old = self.pid_of_worker()
        for _ in range(3):
            assert unix_get(self.address, "/boom").status == 500
            assert unix_get(self.address, "/say").status == 200
        assert self.pid_of_worker() == old, "the worker died"
        os.kill(old, signal.SIGKILL)
        assert self.new_worker(old), "a killed worker is not replaced"
        old = self.pid_of_worker()
        self.process.send_signal(signal.SIGHUP)
        assert self.new_worker(old), "no reload"
        self.process.send_signal(signal.SIGUSR1)
        assert unix_get(self.address, "/half").status == 200
        assert self.stop() == 0

    def stop(self) -> int:
        """TERM; return the exit status."""
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """End what is left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT_S)


@pytest.fixture
def running() -> Iterator[list[Printing]]:
    """The servers to end with the test."""
    servers: list[Printing] = []
    yield servers
    for server in servers:
        server.kill()


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_full_disk_costs_lines_only(running: list[Printing], tmp_path: Path, format_: str) -> None:
    with Path("/dev/full").open("wb") as full:
        server = Printing(tmp_path / "s", f"--log-format={format_}", stdout=full, stderr=full)
        running.append(server)
        server.lives_through_everything()


def test_a_closed_pipe_costs_lines_only(running: list[Printing], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    server = Printing(tmp_path / "s", "-l-", stdout=writer, stderr=writer)
    os.close(writer)
    running.append(server)
    server.lives_through_everything()


def test_a_full_disk_behind_stderr_costs_lines_only(running: list[Printing], tmp_path: Path) -> None:
    server = Printing(
        tmp_path / "s",
        "--stderr=/dev/full",
        "--stdout=/dev/full",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    running.append(server)
    server.lives_through_everything()


def test_a_reader_that_stops_holds_up_nothing_and_reads_later_what_is_missing(
    running: list[Printing], tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream:
        server = Printing(tmp_path / "s", "-l-", "-t2", stdout=writer, stderr=writer)
        os.close(writer)
        running.append(server)
        assert eventually(server.serves)
        old = server.pid_of_worker()
        for _ in range(MANY_EXCEPTIONS):
            assert unix_get(server.address, "/boom").status == 500
        server.process.send_signal(signal.SIGHUP)
        assert server.new_worker(old), "the supervisor waits for a reader"
        server.process.send_signal(signal.SIGUSR1)
        assert server.serves()
        read: list[bytes] = []
        thread = threading.Thread(target=lambda: read.extend(stream), daemon=True)
        thread.start()
        for _ in range(2):
            assert unix_get(server.address, "/boom").status == 500
        assert server.stop() == 0
        thread.join(STOP_TIMEOUT_S)
    text = b"".join(read).decode()
    assert "listening on" in text
    assert text.count("RuntimeError: on purpose") >= 3


def test_lines_that_were_lost_are_counted(running: list[Printing], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream:
        server = Printing(tmp_path / "s", "-t2", stdout=subprocess.DEVNULL, stderr=writer)
        os.close(writer)
        running.append(server)
        assert eventually(server.serves)
        for _ in range(MANY_EXCEPTIONS):
            assert unix_get(server.address, "/boom").status == 500
        read: list[bytes] = []
        thread = threading.Thread(target=lambda: read.extend(stream), daemon=True)
        thread.start()
        lost = re.compile(rb'"log lines were lost" lines=([1-9]\d*) reason="they could not')
        assert eventually(lambda: any(map(lost.search, list(read))))
        assert server.stop() == 0
        thread.join(STOP_TIMEOUT_S)
    counted = sum(int(match[1]) for match in map(lost.search, read) if match)

    logged = sum(b'"the application raised"' in line for line in read)
    assert logged + counted == MANY_EXCEPTIONS


def test_a_stream_that_somebody_made_non_blocking_loses_nothing(
    running: list[Printing], tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    with os.fdopen(reader, "rb") as stream:
        server = Printing(tmp_path / "s", stdout=writer, stderr=writer)
        os.close(writer)
        running.append(server)
        read: list[bytes] = []
        thread = threading.Thread(target=lambda: read.extend(stream), daemon=True)
        thread.start()
        assert eventually(server.serves)
        for _ in range(50):
            assert unix_get(server.address, "/boom").status == 500
            assert unix_get(server.address, "/say").status == 200
        assert server.stop() == 0
        thread.join(STOP_TIMEOUT_S)
    text = b"".join(read).decode()
    # What is longer than such a pipe is written in parts, and others write between them.
    events = re.sub(r"PRINTED|TO-STDERR|INFO:root:LOGGED|WSGI-ERRORS|\n", "", text)
    assert (events.count('"the application raised"'), text.count("PRINTED")) == (50, 50), text[:2000]
    assert "lost" not in text


def test_what_is_printed_into_a_pipe_is_seen_at_once_and_half_lines_at_the_end(
    running: list[Printing], tmp_path: Path
) -> None:
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        server = Printing(tmp_path / "s", stdout=out, stderr=err)
    running.append(server)
    assert eventually(server.serves)
    assert unix_get(server.address, "/say").status == 200
    assert (tmp_path / "out").read_text() == "PRINTED\n"
    errors = (tmp_path / "err").read_text()
    assert all(word in errors for word in ("TO-STDERR", "LOGGED", "WARNED", "WSGI-ERRORS")), errors
    assert unix_get(server.address, "/half").status == 200
    (old,) = children(server.process.pid)
    server.process.send_signal(signal.SIGHUP)
    assert server.new_worker(old)
    assert eventually(lambda: "HALF-A-LINE" in (tmp_path / "out").read_text())
    assert "HALF-TO-STDERR" in (tmp_path / "err").read_text()
    assert server.stop() == 0
