"""Instructions that a request takes in user space: `python -m benchmarks.instructions`.

Counted by callgrind (Valgrind) in the worker of the installed `spawn`, so the figures do not depend on the
speed of the machine or on what else it does. They do depend on compiler and Python: the committed table names
those that it was made with, and is compared only where they are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = Path(__file__).with_suffix(".json")
GROWTH_MAX = 1.03
"""By how much a row may grow before `--check` fails."""
WARM_UP, REQUESTS, ROUNDS = 200, 400, 5
START_TIMEOUT_S = 300.0
ANSWER_TIMEOUT_S = 60.0


class CountError(Exception):
    """Nothing could be counted; the message says why."""


@dataclass(frozen=True)
class Row:
    """One kind of request."""

    name: str
    app: str
    path: str
    pipelined: int = 1
    """Requests sent at once."""
    closes: bool = False
    """Whether each request has a connection of its own."""


ROWS = (
    Row("hello, one at a time", "benchmarks.apps.hello:app", "/"),
    Row("hello, 16 pipelined", "benchmarks.apps.hello:app", "/", pipelined=16),
    Row("hello, a connection each", "benchmarks.apps.hello:app", "/", closes=True),
    Row("Django, plain view", "benchmarks.apps.django_site:app", "/plain"),
)


def toolchain() -> dict[str, str]:
    """What else the figures depend on."""
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    libc = " ".join(platform.libc_ver())
    return {"rustc": rustc, "python": sys.version, "libc": libc, "machine": platform.machine()}


@contextlib.contextmanager
def counted_server(app: str, directory: Path) -> Iterator[tuple[int, tuple[str, int]]]:
    """Run a server of one process and one thread under callgrind; yields the worker's id and the address."""
    out = directory / "out.%p"
    counter = ["valgrind", "-q", "--tool=callgrind", "--trace-children=yes", f"--callgrind-out-file={out}"]
    server = [str(Path(sys.executable).with_name("spawn")), "-s1", "-t1", "-i127.0.0.1", "-p0", "-l/dev/null"]
    patience = ["--start-timeout=300", "--stuck-timeout=0"]
    log = directory / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*counter, sys.executable, *server, *patience, app],
            cwd=ROOT,
            stderr=stream,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
    try:
        port = wait_until_ready(process, log)
        (worker,) = children_of(process.pid)
        yield worker, ("127.0.0.1", port)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait for the last line of the start; returns the port."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        text = log.read_text()
        if match := re.search(r"listening on http://[^:]+:(\d+)[\s\S]*\bready\b", text):
            return int(match[1])
        time.sleep(0.1)
    raise CountError(f"the server did not start under valgrind:\n{log.read_text()}")


def children_of(pid: int) -> list[int]:
    """Return the processes that `pid` has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def send(address: tuple[str, int], row: Row, count: int) -> None:
    """Send `count` requests and read the answers."""
    close = "Connection: close\r\n" if row.closes else ""
    request = f"GET {row.path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n{close}\r\n".encode()
    connection = None
    for _ in range(count // row.pipelined):
        connection = connection or socket.create_connection(address, ANSWER_TIMEOUT_S)
        connection.sendall(request * row.pipelined)
        answers = b""
        while answers.lower().count(b"\r\n\r\nhello") < row.pipelined:
            if not (received := connection.recv(65536)):
                raise CountError(f"{row.name}: no complete answer: {answers!r}")
            answers += received
        if row.closes:
            connection.close()
            connection = None
    if connection:
        connection.close()


def control(action: str, worker: int) -> None:
    """Have callgrind do something."""
    command = ["callgrind_control", action, str(worker)]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def count(row: Row) -> int:
    """Return the instructions of one request, the median of some rounds."""
    with (
        tempfile.TemporaryDirectory(prefix="instructions-") as name,
        counted_server(row.app, Path(name)) as (worker, address),
    ):
        send(address, row, WARM_UP)
        rounds = []
        for number in range(1, ROUNDS + 1):
            control("--zero", worker)
            send(address, row, REQUESTS)
            control("--dump", worker)
            dump = Path(name, f"out.{worker}.{number}")
            rounds.append(sum(int(total) for total in re.findall(r"^totals: (\d+)", dump.read_text(), re.M)))
        return round(statistics.median(rounds) / REQUESTS)


def compare(counted: dict[str, int]) -> int:
    """Print each row beside the committed one; returns the exit status."""
    committed = json.loads(TABLE.read_text()) if TABLE.exists() else {"rows": {}, "toolchain": {}}
    is_comparable = committed["toolchain"] == toolchain()
    grown = []
    for name, instructions in counted.items():
        before = committed["rows"].get(name)
        ratio = instructions / before if before and is_comparable else None
        print(f"{name:28}{instructions:10,}" + (f"  {ratio:.3f} of the committed" if ratio else ""))
        if ratio and ratio > GROWTH_MAX:
            grown.append(name)
    if not is_comparable:
        print(f"not compared: {TABLE.name} was made with another toolchain, {committed['toolchain']}")
    if grown:
        print(f"more than {GROWTH_MAX:.0%} of what was committed: {', '.join(grown)}", file=sys.stderr)
        print(
            "hint: find the instructions, or commit the new table with the reason (--write)", file=sys.stderr
        )
    return 1 if grown else 0


def main() -> int:
    """Count, print, and compare or write; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument(
        "--write", action="store_true", help=f"write {TABLE.name} instead of comparing with it"
    )
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("valgrind is missing\nhint: apt-get install valgrind", file=sys.stderr)
        return 1
    try:
        counted = {row.name: count(row) for row in ROWS}
    except CountError as error:
        print(error, file=sys.stderr)
        return 1
    if options.write:
        TABLE.write_text(json.dumps({"toolchain": toolchain(), "rows": counted}, indent=2) + "\n")
    return compare(counted)


if __name__ == "__main__":
    sys.exit(main())
