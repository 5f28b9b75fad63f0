"""What remains of a measurement: a table in Markdown, all numbers in JSON, a plot in SVG."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from .environment import ROOT, build, version_of
from .measure import Plan, Run
from .plot import draw
from .servers import CEILING
from .summary import Row, summarise
from .workloads import workload_named

RESULTS = Path(__file__).parent / "results"
NOTHING = "-"
DISTURBED_SHARE = 0.10
"""From here on a row is marked: so much of the cores in use went to somebody else."""

COLUMNS = (
    "server", "processes x threads", "requests/s", "spread", "ratio", "CPU µs/request",
    "p50 ms", "p99 ms", "p99.9 ms", "errors", "foreign CPU",
)  # fmt: skip
NOTES = f"""\
Requests/s counts good answers. It and all else are medians of the rounds.
Spread: (max - min) / median of the rounds. Ratio: to the reference in the same round, median.
CPU: of all processes of the server. Errors (**bold**), over all rounds: failed connections, reads and writes,
timeouts, answers of a wrong status.
Foreign CPU: the share of the cores in use that went to something else, other processes or the hypervisor;
from {DISTURBED_SHARE:.0%} on it is marked with (!) and the row means little.
The {CEILING} calls the application without any server.
"""


@dataclass(frozen=True)
class Measurement:
    """A finished measurement."""

    name: str
    plan: Plan
    reference: str
    runs: Sequence[Run]
    skipped: Mapping[str, str]
    """Servers that did not take part, and why."""
    remarks: Sequence[str] = ()


def write_report(measurement: Measurement) -> str:
    """Write the three files into `results/`; returns the Markdown."""
    RESULTS.mkdir(exist_ok=True)
    rows = summarise(measurement.runs, measurement.reference)
    header = machine(measurement)
    text = markdown(measurement, rows, header)
    numbers = {
        "machine": header,
        "reference": measurement.reference,
        "skipped": measurement.skipped,
        "rows": [asdict(row) for row in rows],
        "runs": [asdict(run) for run in measurement.runs],
    }
    (RESULTS / f"{measurement.name}.md").write_text(text)
    (RESULTS / f"{measurement.name}.json").write_text(json.dumps(numbers, indent=1) + "\n")
    draw(rows, RESULTS / f"{measurement.name}.svg", f"{header['date']}, {header['processor']}")
    return text


def markdown(measurement: Measurement, rows: Sequence[Row], header: Mapping[str, str]) -> str:
    """Return the whole report."""
    parts = [f"# {measurement.name}\n", "".join(f"- {key}: {value}\n" for key, value in header.items())]
    for name in dict.fromkeys(row.workload for row in rows):
        for load in dict.fromkeys(row.load for row in rows if row.workload == name):
            title = f"{workload_named(name).about}{': ' + load if load else ''}"
            chosen = [row for row in rows if (row.workload, row.load) == (name, load)]
            parts.append(f"## {name}: {title}\n\n{table(chosen)}")
    if measurement.skipped:
        parts.append(
            "Skipped:\n\n" + "".join(f"- {name}: {why}\n" for name, why in measurement.skipped.items())
        )
    faults = [f"- {row.server}, {row.workload}: {row.fault}\n" for row in rows if row.fault is not None]
    told = [f"- {row.server}, {row.workload}: {row.remark}\n" for row in rows if row.remark is not None]
    if told:
        parts.append("Remarks:\n\n" + "".join(dict.fromkeys(told)))
    if faults:
        parts.append("Failed:\n\n" + "".join(dict.fromkeys(faults)))
    parts += [f"{remark}\n" for remark in measurement.remarks]
    return "\n".join([*parts, NOTES])


def table(rows: Sequence[Row]) -> str:
    """Return the rows of one load as a table, the fastest first."""
    ordered = sorted(rows, key=lambda row: -(row.requests_per_s or 0))
    body = [
        COLUMNS,
        tuple("---" if column == "server" else "---:" for column in COLUMNS),
        *map(cells, ordered),
    ]
    widths = [max(map(len, column)) for column in zip(*body, strict=True)]
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |\n"
        for line in body
    )


def cells(row: Row) -> tuple[str, ...]:
    """Return the table's line for a row."""
    foreign = number(row.foreign_share, 100, "%")
    return (
        row.server,
        f"{row.processes} x {row.threads}",
        "failed" if row.requests_per_s is None else number(row.requests_per_s),
        number(row.spread, 100, "%"),
        number(row.ratio, 1, "x", 2),
        number(row.cpu_us_per_request, 1, "", 1),
        number(row.p50_us, 1e-3, "", 2),
        number(row.p99_us, 1e-3, "", 2),
        number(row.p999_us, 1e-3, "", 2),
        f"**{row.errors}**" if row.errors else "0",
        f"(!) {foreign}" if (row.foreign_share or 0) >= DISTURBED_SHARE else foreign,
    )


def number(value: float | None, factor: float = 1, unit: str = "", digits: int = 0) -> str:
    """Return a number for people, or a dash."""
    return NOTHING if value is None else f"{value * factor:,.{digits}f}{unit}"


def machine(measurement: Measurement) -> dict[str, str]:
    """Return what the numbers depend on."""
    return {**machine_facts(measurement.plan), "reference": measurement.reference}


def machine_facts(plan: Plan) -> dict[str, str]:
    """Return the machine, the versions and the plan."""
    versions = [f"{server.name} {version_of(server.distribution)}" for server in plan.servers]
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": processor(),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "source": said_by("git", "-C", str(ROOT), "describe", "--always", "--dirty") or "unknown",
        "build": build(),
        "servers": ", ".join(versions) or "none",
        "libraries": f"Django {version_of('Django')}",
        "load": said_by("wrk", "-v").partition(" Copyright")[0],
        "cores": f"server {listed(plan.server_cores)}, load {listed(plan.load_cores)}",
        "rounds": f"{plan.rounds} of slices of {plan.seconds} s, all servers up, loaded in turn",
    }


def listed(cores: Sequence[int]) -> str:
    """Return core numbers as a list."""
    return ",".join(map(str, cores))


def processor() -> str:
    """Return the processor's model and the number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return f"{models[0] if models else platform.machine()}, {lines_of_cores(lines)} cores"


def lines_of_cores(lines: Sequence[str]) -> int:
    """Return how many cores /proc/cpuinfo lists."""
    return sum(line.startswith("processor") for line in lines)


def said_by(*command: str) -> str:
    """Return the first line that a command prints, or nothing."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    # `wrk -v` exits with 1.
    return result.stdout.partition("\n")[0].strip()
