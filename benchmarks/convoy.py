"""How long an instant view waits beside one that computes, makes a system call, computes again, and so on."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .environment import ROOT
from .load import LoadError
from .probe import free_port, wait_until_ready
from .process_tree import process_tree
from .progress import Progress
from .servers import Launch, Server

HOLDS_MS = (0.05, 0.1, 0.3, 0.6, 0.9, 2.0, 5.0)
ASK_PAUSE_S = 0.01
WARM_UP_REQUESTS = 50
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Row:
    """What one server did at one hold."""

    server: str
    hold_ms: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    rounds_share: float
    """Rounds of the long view, of those it does alone."""


def convoy(servers: Sequence[Server], processes: int, threads: int, seconds: int, progress: Progress) -> str:
    """Measure every server at every hold; writes table, numbers and plot, and returns the table."""
    # matplotlib is only in the virtualenv.
    from .convoy_plot import draw
    from .report import RESULTS

    rows: list[Row] = []
    for server in servers:
        try:
            rows += measure(server, processes, threads, seconds)
        except (OSError, LoadError, http.client.HTTPException) as error:
            progress.note(f"{server.name}: {error}")
        progress.note(f"{server.name} done")
    RESULTS.mkdir(exist_ok=True)
    text = table(rows, threads)
    (RESULTS / "convoy.md").write_text(text)
    (RESULTS / "convoy.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    draw(rows, RESULTS / "convoy.svg")
    progress.note(f"written: {RESULTS}/convoy.md, .json, .svg")
    return text


def measure(server: Server, processes: int, threads: int, seconds: int) -> list[Row]:
    """Measure one server at every hold."""
    processes, threads = server.shape(processes, threads)
    with TemporaryDirectory(prefix="spawning-benchmark-") as scratch:
        port = free_port()
        launch = Launch("benchmarks.apps.convoy:app", port, processes, threads, Path(scratch))
        output = Path(scratch) / "output"
        with process_tree(server.command(launch), ROOT, output, {"PYTHONPATH": str(ROOT)}) as root:
            wait_until_ready(root, port)
            for _ in range(WARM_UP_REQUESTS):
                get(port, "/")
            return [measure_hold(server.name, port, hold_ms, seconds) for hold_ms in HOLDS_MS]


def measure_hold(server: str, port: int, hold_ms: float, seconds: int) -> Row:
    """Ask the instant view now and then while the long one runs, which has run alone before."""
    path = f"/long?{hold_ms},{seconds}"
    alone = int(get(port, path))
    rounds: list[int] = []
    beside = threading.Thread(target=lambda: rounds.append(int(get(port, path))))
    beside.start()
    waits_ms = []
    while beside.is_alive():
        begun = time.perf_counter()
        get(port, "/")
        waits_ms.append((time.perf_counter() - begun) * 1000)
        time.sleep(ASK_PAUSE_S)
    beside.join()
    return row(server, hold_ms, waits_ms, sum(rounds) / max(alone, 1))


def row(server: str, hold_ms: float, waits_ms: Sequence[float], rounds_share: float) -> Row:
    """Return what these waits, one at least, come to."""
    ordered = sorted(waits_ms)
    p50_ms, p99_ms = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    return Row(server, hold_ms, p50_ms, p99_ms, ordered[-1], rounds_share)


def get(port: int, path: str) -> bytes:
    """Return what a server answers on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def table(rows: Sequence[Row], threads: int) -> str:
    """Return a line a server, a column a hold."""
    heads = " | ".join(f"{hold_ms:g} ms" for hold_ms in HOLDS_MS)
    lines = [
        "# convoy\n",
        f"Waits of an instant view in ms, p50 / p99 / max, and the long view's rounds, {threads} threads,",
        "by how long the long view holds the interpreter between system calls:\n",
        f"| server | {heads} |\n| --- |{' ---: |' * len(HOLDS_MS)}",
    ]
    for server in dict.fromkeys(row.server for row in rows):
        lines.append(f"| {server} | {' | '.join(cell(row) for row in rows if row.server == server)} |")
    return "\n".join(lines) + "\n"


def cell(row: Row) -> str:
    """Return what the table says of one hold."""
    return f"{row.p50_ms:,.0f} / {row.p99_ms:,.0f} / {row.max_ms:,.0f}, {row.rounds_share:.0%}"
