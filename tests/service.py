"""A server as its machine knows it: behind a unix socket, in the background, watched, as another user."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from http_client import Response, read_response
from server import START_TIMEOUT_S, STOP_TIMEOUT_S, TESTS, spawn_command
from wire import CLOSE, message

TIMEOUT_S = 60.0
POLL_INTERVAL_S = 0.02


def eventually(condition: Callable[[], object]) -> bool:
    """Whether `condition` became true; only a fault waits for the timeout."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True


def unix_request(address: Path | str, raw: bytes) -> Response:
    """The response to `raw` over a unix socket: a path, or a name that begins with a NUL."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(str(address))
        connection.sendall(raw)
        with connection.makefile("rb") as stream:
            return read_response(stream)


def unix_get(address: Path | str, path: str = "/", *fields: str) -> Response:
    """GET `path` over a unix socket, with a Host field unless `fields` have one."""
    host = [] if any(field.startswith("Host:") for field in fields) else ["Host: localhost"]
    return unix_request(address, message(f"GET {path} HTTP/1.1", *host, *fields, CLOSE))


def listens(address: Path | str) -> bool:
    """Whether somebody listens on a unix socket."""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.connect(str(address))
        return True
    return False


class Systemd:
    """What listens behind NOTIFY_SOCKET (sd_notify(3))."""

    def __init__(self, address: str) -> None:
        self.variable = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self._socket.settimeout(TIMEOUT_S)

    def next(self) -> dict[str, str]:
        """The variables of the next message, which must come soon."""
        lines = self._socket.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def close(self) -> None:
        """Hear nothing more."""
        self._socket.close()


def nobody_can_run(python: str, program: str = "") -> bool:
    """Whether the user nobody may run that interpreter, and in it a program."""
    # Through a shell: setpriv itself still has root's capabilities when it starts a program.
    become = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    become += ["sh", "-c", 'exec "$0" -c "$1"', python, program]
    return subprocess.run(become, check=False, capture_output=True).returncode == 0


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory in which the user nobody may write, where this test may become that user."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if not nobody_can_run(sys.executable):
        pytest.skip(f"nobody cannot run {sys.executable}")
    # Not pytest's, which is closed to others.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o777)
        yield directory


class Daemon:
    """A server started by `spawn --daemonize`, found by its pid file. Ended with the `with` block."""

    def __init__(
        self, directory: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.pid_file = directory / "spawn.pid"
        self.started = subprocess.run(
            spawn_command("--daemonize", f"--pidfile={self.pid_file}", *arguments),
            cwd=TESTS,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        self._pidfd = None
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            self._pidfd = os.pidfd_open(self.pid)

    @property
    def pid(self) -> int:
        """The supervisor's process id, as the pid file tells it."""
        return int(self.pid_file.read_text())

    def workers(self) -> list[int]:
        """The process ids of its children."""
        return children(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor alone."""
        assert self._pidfd is not None
        signal.pidfd_send_signal(self._pidfd, number)

    def ended(self, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """Whether it ended in time."""
        poll = select.poll()
        if self._pidfd is None:
            return True
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pidfd is None:
            return
        if not self.ended(0):
            # Its workers see the end of their supervisor, and end too.
            signal.pidfd_send_signal(self._pidfd, signal.SIGQUIT)
            assert self.ended()
        os.close(self._pidfd)


def children(process: int) -> list[int]:
    """The process ids of the children of `process`."""
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def open_files(process: int) -> list[str]:
    """What the descriptors of `process` lead to; one may be closed while we look."""
    found = []
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(descriptor))  # noqa: PTH115 (`socket:[1]` is no path)
    return found


def status(process: int) -> dict[str, list[str]]:
    """The fields of `/proc/PID/status`, split into words (proc_pid_status(5))."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
