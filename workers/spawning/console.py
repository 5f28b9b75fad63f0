"""``spawn console``: talks to the Python console of a worker of a server that runs with ``--backdoor``."""

import argparse
import contextlib
import io
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from spawning.backdoor import CONTINUATION, END, SOCKET_PREFIX

READ_BYTES = 65536
EX_USAGE = 64
EX_UNAVAILABLE = 69
DIRECTORY_PREFIX = "spawning-"


def main(words: list[str]) -> int:
    """Find the console that ``words`` name, talk to it, and return the exit status."""
    options = _parser().parse_args(words)
    server = _server(options)
    connection = _connected(_directory(server), options.slot)
    with connection, connection.makefile("rb") as stream:
        try:
            return _converse(connection, _messages(stream))
        except (BrokenPipeError, ConnectionResetError, EOFError):
            print("spawn console: the worker has ended", file=sys.stderr)
            return EX_UNAVAILABLE


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EX_USAGE, f"spawn console: {message}\nhint: see spawn console --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="spawn console",
        description="Talk to the Python console in a worker of a server that was started with --backdoor. "
        "Without a terminal, lines are read from standard input.",
        epilog="An application called console is served by: spawn -- console",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--pid", type=int, help="process id of the server; not needed if there is but one")
    which.add_argument("--pidfile", type=Path, help="file that holds it")
    parser.add_argument("--slot", type=int, help="slot of the worker, counted from 0; any without")
    return parser


def _fail(message: str, hint: str) -> NoReturn:
    print(f"spawn console: {message}\nhint: {hint}", file=sys.stderr)
    sys.exit(EX_UNAVAILABLE)


def _server(options: argparse.Namespace) -> int:
    if options.pid is not None:
        return int(options.pid)
    if options.pidfile is not None:
        try:
            return int(options.pidfile.read_text())
        except (OSError, ValueError) as error:
            _fail(f"--pidfile: {options.pidfile} tells no process id: {error}", "is the server running?")
    found = sorted(
        path.name.removeprefix(DIRECTORY_PREFIX) for path in _temporary().glob(f"{DIRECTORY_PREFIX}*")
    )
    alive = [int(name) for name in found if name.isdigit() and Path("/proc", name).exists()]
    if len(alive) != 1:
        fault = (
            f"several servers run: {', '.join(map(str, alive))}"
            if alive
            else "no server with --backdoor runs"
        )
        _fail(fault, "name the server: spawn console --pid PID")
    return alive[0]


def _temporary(environment: dict[str, str] | None = None) -> Path:
    return Path((os.environ if environment is None else environment).get("TMPDIR") or "/tmp")


def _directory(server: int) -> Path:
    """Return the private directory of a server, which is where its own environment says."""
    process = Path("/proc", str(server))
    environment = None
    with contextlib.suppress(OSError):
        variables = os.fsdecode((process / "environ").read_bytes()).split("\0")
        environment = dict(variable.split("=", 1) for variable in variables if "=" in variable)
    directory = _temporary(environment) / f"{DIRECTORY_PREFIX}{server}"
    try:
        # Anybody may make a directory of that name.
        is_its_own = directory.lstat().st_uid == process.stat().st_uid and not directory.is_symlink()
    except FileNotFoundError:
        is_its_own = False
    if not is_its_own:
        _fail(f"process {server} has no console", "start the server with --backdoor")
    return directory


def _connected(directory: Path, slot: int | None) -> socket.socket:
    pattern = f"{SOCKET_PREFIX}{'*' if slot is None else slot}-*"
    try:
        # Of several generations side by side the youngest counts.
        found = sorted(directory.iterdir(), key=lambda path: path.lstat().st_mtime, reverse=True)
    except PermissionError:
        _fail(
            f"{directory} is closed to this user", "only the server's own user, and root, may open a console"
        )
    for address in found:
        connection = socket.socket(socket.AF_UNIX)
        if address.match(pattern):
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                connection.connect(str(address))
                return connection
        connection.close()
    where = "no worker" if slot is None else f"no worker in slot {slot}"
    _fail(f"{where} has a console", "is the server still starting, and running with --backdoor?")


def _messages(stream: io.BufferedReader) -> Iterator[str]:
    """Yield text and prompt in turn; EOFError when the worker is gone."""
    buffer = b""
    while True:
        while END not in buffer:
            data = stream.read1(READ_BYTES)
            if not data:
                raise EOFError
            buffer += data
        message, _, buffer = buffer.partition(END)
        yield message.decode("utf-8", "replace")


def _converse(connection: socket.socket, messages: Iterator[str]) -> int:
    ask = _asking() if sys.stdin.isatty() else _reading
    for text in messages:
        print(text, end="", flush=True)
        prompt = next(messages)
        if not prompt:
            return 0
        line = ask(prompt)
        if line is None:
            return 0
        connection.sendall(line.encode() + b"\n")
    return 0


def _asking() -> Callable[[str], str | None]:
    with contextlib.suppress(ImportError):
        # Line editing and history, for input().
        import readline  # noqa: F401

    def ask(prompt: str) -> str | None:
        try:
            return input(prompt)
        except EOFError:
            print()
            return None

    return ask


def _reading(prompt: str) -> str | None:
    line = sys.stdin.readline()
    if line:
        return line.rstrip("\n")
    # The end of the input ends an open block as an empty line does.
    return "" if prompt == CONTINUATION else None
