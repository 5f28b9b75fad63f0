"""The server under test: the installed `spawn` in a session of its own, watched from outside.

Nothing here knows the inside of the server. It relies on what a user sees: on stderr a line with
`listening on http://HOST:PORT` and a later one with the word `ready`; on stdout the access log alone.
"""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from http_client import Response, Truncated, read_response

__all__ = ["Response", "Server", "Truncated", "read_response", "run_to_end", "spawn_command"]

TESTS = Path(__file__).parent
#: Only a fault waits for these: a machine that stands still for seconds must not look like one.
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0
LOG_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 60.0

LISTENING = re.compile(r"listening on http://(?P<host>\[[^\]]+\]|[^:/\s]+):(?P<port>\d+)")
READY = re.compile(r"\bready\b")


def spawn_command(*arguments: str) -> list[str]:
    """The command line of the `spawn` that was installed beside the running Python."""
    spawn = Path(sys.executable).with_name("spawn")
    assert spawn.exists(), f"{spawn} is missing: install the package into this virtualenv (make test does)"
    return [str(spawn), *arguments]


def run_to_end(
    *arguments: str,
    cwd: Path = TESTS,
    environment: Mapping[str, str] | None = None,
    wrapper: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `spawn` where it is expected to end by itself, for usage errors and broken apps."""
    return subprocess.run(
        [*wrapper, *spawn_command(*arguments)],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
        pass_fds=pass_fds,
    )


class _Logs:
    """What a process printed so far, by stream; a reader thread each, and one condition to wait on."""

    def __init__(self, streams: Mapping[str, IO[bytes]]) -> None:
        self._printed = dict.fromkeys(streams, b"")
        self._open = len(streams)
        self._changed = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), name=f"read-{name}", daemon=True)
            for name, stream in streams.items()
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, stream: IO[bytes]) -> None:
        with stream:
            while data := os.read(stream.fileno(), 65536):
                with self._changed:
                    self._printed[name] += data
                    self._changed.notify_all()
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def text(self, name: str) -> str:
        with self._changed:
            return self._printed[name].decode("utf-8", "replace")

    def search(
        self, names: Sequence[str], pattern: re.Pattern[str], timeout_s: float
    ) -> re.Match[str] | None:
        """Wait until `pattern` is found in one of the streams; None at the timeout or when all have ended."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for name in names:
                    if match := pattern.search(self._printed[name].decode("utf-8", "replace")):
                        return match
                remaining_s = deadline - time.monotonic()
                if self._open == 0 or remaining_s <= 0:
                    return None
                self._changed.wait(remaining_s)

    def join(self, timeout_s: float) -> None:
        for reader in self._readers:
            reader.join(timeout_s)


class Server:
    """One run of `spawn`. Made by the fixture `server_factory`, which also ends it.

    Listens on a port that the kernel chose (`--port=0`) unless `arguments`, or SPAWN_PORT in `environment`,
    name a port or another address, or `port` is false. `wrapper` is a command that starts the rest of its
    command line; `program` one that becomes `spawn`, with words of its own. The constructor returns when the
    server has said that it is ready, or at once when `wait` is false.
    """

    def __init__(
        self,
        app: str,
        *arguments: str,
        cwd: Path = TESTS,
        environment: Mapping[str, str] | None = None,
        wait: bool = True,
        wrapper: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        port: bool = True,
        program: Sequence[str] = (),
    ) -> None:
        named = any(re.match(r"-p|--port\b|-b|--bind\b", argument) for argument in arguments)
        chosen = named or "SPAWN_PORT" in (environment or {})
        port_0 = ["--port=0"] if port and not chosen else []
        words = [*port_0, *arguments, app]
        self.command = [*wrapper, *([*program, *arguments, app] if program else spawn_command(*words))]
        # A session of its own lets `kill` find every worker, whatever became of the supervisor.
        self._process = subprocess.Popen(
            self.command,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._pidfd = os.pidfd_open(self._process.pid)
        weakref.finalize(self, os.close, self._pidfd)
        self._logs = _Logs({"stdout": self._process.stdout, "stderr": self._process.stderr})
        if wait:
            self.wait_until_ready()

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._process.pid

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first address that the server listens on."""
        match = self._logs.search(["stderr"], LISTENING, START_TIMEOUT_S)
        assert match, f"no `listening on` line from {self.command}:\n{self.stderr_text()}"
        return match["host"].strip("[]"), int(match["port"])

    @property
    def url(self) -> str:
        """`http://HOST:PORT`, without a slash at the end."""
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when the server has printed its last start-up line."""
        if self._logs.search(["stderr"], READY, timeout_s) is None:
            self.kill()
            raise AssertionError(f"{self.command} did not become ready:\n{self.stderr_text()}")

    def processes(self) -> list[int]:
        """Ids of the living processes of the server, the supervisor's included, zombies left out."""
        return [
            int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._owns(entry)
        ]

    def _owns(self, process: Path) -> bool:
        try:
            stat = (process / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        # Fields after the command's name, which may itself hold spaces and parentheses (proc_pid_stat(5)).
        state, _parent, _group, session = stat.rpartition(")")[2].split()[:4]
        return int(session) == self.pid and state not in "ZX"

    # What it printed

    def stdout_text(self) -> str:
        """Everything printed to stdout so far: the access log."""
        return self._logs.text("stdout")

    def stderr_text(self) -> str:
        """Everything printed to stderr so far: start-up lines, messages, tracebacks."""
        return self._logs.text("stderr")

    def wait_for_log(self, pattern: str, timeout_s: float = LOG_TIMEOUT_S) -> re.Match[str]:
        """Wait until `pattern` (multi-line mode) is found in stdout or stderr; fail at the timeout."""
        match = self._logs.search(["stdout", "stderr"], re.compile(pattern, re.MULTILINE), timeout_s)
        assert match, f"not logged: {pattern}\nstdout:\n{self.stdout_text()}\nstderr:\n{self.stderr_text()}"
        return match

    # Talking to it

    def connect(self, timeout: float = REQUEST_TIMEOUT_S) -> socket.socket:
        """A new connection, every operation on which is bounded by `timeout` seconds."""
        return socket.create_connection(self.address, timeout)

    def request(self, raw: bytes, timeout: float = REQUEST_TIMEOUT_S) -> Response:
        """Send `raw` on a connection of its own and return the final response, interim ones skipped."""
        with self.connect(timeout) as connection, connection.makefile("rb") as stream:
            # A server may refuse before it has read everything; its answer counts, not the broken pipe.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(raw)
            response = read_response(stream, head=raw.startswith(b"HEAD "))
            while response.status < 200:
                response = read_response(stream, head=raw.startswith(b"HEAD "))
            return response

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Response:
        """GET `path` on a connection of its own."""
        host, port = self.address
        fields = {"Host": f"{host}:{port}", "Connection": "close", **(headers or {})}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        return self.request("\r\n".join(lines).encode("latin-1"))

    # Ending it

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor alone."""
        signal.pidfd_send_signal(self._pidfd, number)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for the supervisor's end; return its exit code, negative for a signal (as subprocess does)."""
        assert self._ended(timeout_s), f"still running after {timeout_s} s:\n{self.stderr_text()}"
        code = self._process.wait()
        if not self.processes():
            self._logs.join(LOG_TIMEOUT_S)
        return code

    def stop(self) -> None:
        """TERM, and assert the polite end: exit code 0 and no process left."""
        self.signal(signal.SIGTERM)
        code = self.wait()
        assert code == 0, f"exit code {code} after TERM:\n{self.stderr_text()}"
        assert not self.processes(), f"left behind: {self.processes()}\n{self.stderr_text()}"

    def kill(self) -> None:
        """End every process of the server at once, the supervisor first. Harmless when there is none."""
        self._process.kill()
        while processes := self.processes():
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait(STOP_TIMEOUT_S)
        self._logs.join(LOG_TIMEOUT_S)

    def _ended(self, timeout_s: float) -> bool:
        """Whether the supervisor ended within the time; it stays to be reaped, so its id is not reused."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))
