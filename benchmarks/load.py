"""The load generators: what to run, and what their output says."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .environment import ROOT
from .workloads import Load

TIMEOUT_S = 5
"""A request that takes longer is an error."""

AB_REQUESTS_MAX = 1_000_000
"""More than ab sends in any run; it allocates a record for each beforehand."""

GRACE_S = 15
"""How much longer than asked for a load generator may take before it is given up."""

SCRIPT = Path(__file__).with_name("load.lua")


class LoadError(Exception):
    """A run gave no numbers; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """What a load generator saw. Latencies in microseconds, `None` where it does not tell."""

    requests: int
    seconds: float
    p50_us: float | None
    p99_us: float | None
    p999_us: float | None
    errors: Mapping[str, int]

    def without_read_errors(self) -> Outcome:
        """Return the same, for answers that end with the connection: wrk books a read error for each."""
        return replace(self, errors={name: count for name, count in self.errors.items() if name != "read"})

    @property
    def requests_per_s(self) -> float:
        """Good answers a second: those of another status than 2xx or 3xx are errors."""
        return (self.requests - self.errors.get("status", 0)) / self.seconds

    @property
    def error_count(self) -> int:
        """All errors together."""
        return sum(self.errors.values())


def load_command(load: Load, port: int, seconds: int, connections: int | None = None) -> list[str]:
    """Return the command that sends `load` to a server on this machine for `seconds`."""
    url = f"http://127.0.0.1:{port}{load.path}"
    count = str(connections or load.connections)
    if load.tool == "ab":
        # Without `-k`: a connection a request. `-t` alone would stop at 50,000 requests.
        return [
            "ab",
            "-q",
            "-r",
            "-c",
            count,
            "-s",
            str(TIMEOUT_S),
            "-t",
            str(seconds),
            "-n",
            str(AB_REQUESTS_MAX),
            url,
        ]
    options = ["-t1", f"-c{count}", f"-d{seconds}s", "--timeout", f"{TIMEOUT_S}s", "--latency"]
    return ["wrk", *options, "-s", str(SCRIPT), url, "--", load.method, str(load.body_bytes)]


def run_together(commands: Sequence[Sequence[str]], seconds: int) -> list[str]:
    """Run commands that take `seconds` at the same time, and return what they print; leaves none behind."""
    with ExitStack() as stack:
        running = [stack.enter_context(killed_at_end(command)) for command in commands]
        return [output_of(process, seconds + GRACE_S) for process in running]


@contextmanager
def killed_at_end(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a command, and see to it that it is gone afterwards, whatever happens."""
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def output_of(process: subprocess.Popen[str], timeout_s: float) -> str:
    """Wait for a command and return what it printed; raises `LoadError` if it fails or does not end."""
    try:
        output, faults = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise LoadError("the load generator did not end") from None
    if process.returncode != 0:
        raise LoadError(f"the load generator failed: {(faults or output).strip().rpartition(chr(10))[2]}")
    return output


def parse_outcome(load: Load, output: str) -> Outcome:
    """Read what the load generator printed; raises `LoadError` if it did not come to its end."""
    return parse_ab(output) if load.tool == "ab" else parse_wrk(output)


def parse_wrk(output: str) -> Outcome:
    """Read the line that `load.lua` prints at the end."""
    line = output.rstrip().rpartition("\n")[2]
    if not line.startswith("{"):
        raise LoadError(f"wrk printed no result: {line!r}")
    result = json.loads(line)
    seconds = result["duration_us"] / 1e6
    return Outcome(
        result["requests"], seconds, result["p50_us"], result["p99_us"], result["p999_us"], result["errors"]
    )


def parse_ab(output: str) -> Outcome:
    """Read ab's report. It knows no finer percentile than 99, and milliseconds only."""

    def number(pattern: str, default: float | None = None) -> float:
        match = re.search(pattern, output, re.MULTILINE)
        if match is not None:
            return float(match[1])
        if default is None:
            raise LoadError(f"ab printed no line {pattern!r}")
        return default

    return Outcome(
        requests=int(number(r"^Complete requests: +(\d+)")),
        seconds=number(r"^Time taken for tests: +([\d.]+)"),
        p50_us=number(r"^ +50% +(\d+)") * 1000,
        p99_us=number(r"^ +99% +(\d+)") * 1000,
        p999_us=None,
        errors={
            "failed": int(number(r"^Failed requests: +(\d+)")),
            "status": int(number(r"^Non-2xx responses: +(\d+)", 0)),
        },
    )
