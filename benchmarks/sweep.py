"""How servers behave with few and with many threads: throughput and p99 over the number of threads."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from .measure import Plan, Run, measure
from .plot import OURS
from .progress import Progress
from .report import RESULTS, machine_facts
from .summary import Row, summarise
from .workloads import workload_named

THREADS = (1, 2, 4, 8, 16, 32, 64)
PANEL_INCHES = (3.8, 2.8)
PEER_COLOURS = ("#5b7a99", "#8a8f4a", "#7d5b99")


def sweep(plan: Plan, progress: Progress) -> str:
    """Measure the plan for every number of threads; writes table, numbers and plot, and returns the table."""
    rows: list[Row] = []
    for index, threads in enumerate(THREADS):
        runs: list[Run] = []
        for run in measure(replace(plan, threads=threads), progress.bar):
            runs.append(run)
        # The number asked for: a server that has fewer shows what it can do with these.
        rows += [replace(row, threads=threads) for row in summarise(runs, plan.servers[0].name)]
        progress.note(f"{threads} threads done, {len(THREADS) - index - 1} numbers of threads to go")
    progress.clear()
    RESULTS.mkdir(exist_ok=True)
    facts = machine_facts(plan)
    lines = [f"- {key}: {value}" for key, value in facts.items()]
    text = "\n".join(["# threads", "", *lines, "", tables(rows)])
    (RESULTS / "threads.md").write_text(text)
    numbers = {"machine": facts, "rows": [asdict(row) for row in rows]}
    (RESULTS / "threads.json").write_text(json.dumps(numbers, indent=1) + "\n")
    draw(rows, RESULTS / "threads.svg")
    progress.note(f"written: {RESULTS}/threads.md, .json, .svg")
    return text


def loads_of(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return workloads and their loads in order."""
    return list(dict.fromkeys((row.workload, row.load) for row in rows))


def title(workload: str, load: str) -> str:
    """Return what a load is called in the report."""
    return f"{workload_named(workload).about}{': ' + load if load else ''}"


def tables(rows: Sequence[Row]) -> str:
    """Return a table for each load: a line a server, a column a number of threads."""
    parts = []
    for workload, load in loads_of(rows):
        chosen = {
            (row.server, row.threads): row for row in rows if (row.workload, row.load) == (workload, load)
        }
        heads = " | ".join(map(str, THREADS))
        lines = [
            f"## {title(workload, load)}\n",
            f"requests/s, p99 in ms, by threads:\n\n| server | {heads} |\n| --- |{' ---: |' * len(THREADS)}",
        ]
        for server in dict.fromkeys(server for server, _ in chosen):
            cells = " | ".join(cell(chosen.get((server, threads))) for threads in THREADS)
            lines.append(f"| {server} | {cells} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def cell(row: Row | None) -> str:
    """Return what a table says of one number of threads."""
    if row is None or row.requests_per_s is None or row.p99_us is None:
        return "-"
    return f"{row.requests_per_s:,.0f}, {row.p99_us / 1000:,.1f}"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the plot: throughput above, p99 below, a column for each load."""
    loads = loads_of(rows)
    servers = list(dict.fromkeys(row.server for row in rows))
    colours = {server: (OURS, *PEER_COLOURS)[min(place, 3)] for place, server in enumerate(servers)}
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 8}):
        size = (PANEL_INCHES[0] * len(loads), PANEL_INCHES[1] * 2)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(2, len(loads), squeeze=False)
        for column, (workload, load) in enumerate(loads):
            for server in servers:
                line = [
                    row for row in rows if (row.workload, row.load, row.server) == (workload, load, server)
                ]
                threads = [row.threads for row in line]
                rates = [row.requests_per_s for row in line]
                tails = [row.p99_us / 1000 if row.p99_us else None for row in line]
                for axes, values in ((grid[0][column], rates), (grid[1][column], tails)):
                    axes.plot(threads, values, marker="o", markersize=3, color=colours[server], label=server)
            grid[0][column].set_title(f"{workload}: {load}" if load else workload)
            for axes, label in ((grid[0][column], "requests/s"), (grid[1][column], "p99, ms")):
                axes.set_xscale("log", base=2)
                axes.set_xticks(THREADS, [str(threads) for threads in THREADS])
                axes.set_ylim(bottom=0)
                axes.set_ylabel(label)
                axes.spines[["top", "right"]].set_visible(False)
            grid[1][column].set_xlabel("threads")
        grid[0][0].legend(frameon=False)
        figure.savefig(path, format="svg")
