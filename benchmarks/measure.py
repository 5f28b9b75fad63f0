"""Rounds of runs: every server in turn, so that what changes on the machine changes for all of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from .environment import ROOT
from .idle import idle_connections
from .load import LoadError, Outcome, load_command, parse_outcome, run_together
from .probe import free_port, wait_until_ready, warm_up
from .process_tree import core_busy_ns, cpu_ns, ended_children_cpu_ns, on_cores, process_tree
from .servers import CEILING, Launch, Server, program
from .workloads import Workload

RUN_OVERHEAD_S = 1.5
"""What a run takes beside its load: start, warm-up, stop. For the estimate of the time left."""


@dataclass(frozen=True)
class Plan:
    """What to measure, and how."""

    servers: Sequence[Server]
    workloads: Sequence[Workload]
    rounds: int
    seconds: int
    server_cores: Sequence[int]
    load_cores: Sequence[int]
    ceiling: bool
    processes: int | None = None
    threads: int | None = None
    connections: int | None = None
    deadline_s: float | None = None
    """On the monotonic clock: no run begins after it."""

    def contestants(self, workload: Workload) -> list[Server | None]:
        """Return who runs `workload`; `None` stands for the bare loop."""
        ceiling: list[Server | None] = [None] if self.ceiling and workload.ceiling_threads else []
        return [*self.servers, *ceiling]

    def cores(self, workload: Workload) -> tuple[Sequence[int], Sequence[int]]:
        """Return the cores of the server and those of the load generator."""
        if not workload.shares_cores:
            return self.server_cores, self.load_cores
        both = sorted({*self.server_cores, *self.load_cores})
        return both, both

    def runs(self) -> list[tuple[int, Workload, Server | None]]:
        """Return all runs in their order; the servers change places from round to round."""
        order = []
        for number in range(self.rounds):
            for workload in self.workloads:
                contestants = self.contestants(workload)
                shift = number % len(contestants)
                order += [(number, workload, one) for one in contestants[shift:] + contestants[:shift]]
        return order


@dataclass
class Run:
    """What came of one run."""

    round: int
    workload: str
    server: str
    processes: int
    threads: int
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """By the label of the load."""
    cpu_us_per_request: float = 0.0
    foreign_share: float = 0.0
    """Share of the cores that went to something else: of the server's or the load's, whichever lost more."""
    command: list[str] = field(default_factory=list)
    remark: str | None = None
    fault: str | None = None


def measure(plan: Plan, on_run: Callable[[int, int, str, float], None]) -> Iterator[Run]:
    """Do all runs of the plan; `on_run` is told before each: number, of how many, what, seconds left."""
    runs = plan.runs()
    hopeless = set()
    for index, (number, workload, server) in enumerate(runs):
        name = CEILING if server is None else server.name
        left = (len(runs) - index) * (plan.seconds + RUN_OVERHEAD_S)
        if plan.deadline_s is not None:
            if time.monotonic() > plan.deadline_s:
                return
            left = min(left, plan.deadline_s - time.monotonic())
        if (workload.name, name) in hopeless:
            continue
        on_run(index, len(runs), f"{workload.name} on {name}, round {number + 1} of {plan.rounds}", left)
        run = (
            measure_ceiling(plan, number, workload)
            if server is None
            else measure_server(plan, number, workload, server)
        )
        if run.fault is not None:
            hopeless.add((workload.name, name))
        yield run


def measure_ceiling(plan: Plan, number: int, workload: Workload) -> Run:
    """Call the workload's application in a loop on the core that servers get."""
    load, threads = workload.loads[0], workload.ceiling_threads
    request = ("--method", load.method, "--path", load.path, "--body-bytes", load.body_bytes)
    extent = ("--threads", threads, "--seconds", plan.seconds)
    loop = program("python", "-m", "benchmarks.bare_loop", workload.app, *request, *extent)
    run = Run(number, workload.name, CEILING, 1, threads, command=on_cores(plan.server_cores[:1], loop))
    try:
        result = json.loads(run_together([run.command], plan.seconds)[0])
    except LoadError as error:
        run.fault = str(error)
        return run
    run.outcomes[load.label] = Outcome(result["requests"], result["seconds"], None, None, None, {})
    run.cpu_us_per_request = result["cpu_seconds"] * 1e6 / result["requests"]
    # One thread never waits: while it had no CPU, somebody else had it.
    run.foreign_share = max(0.0, 1 - result["cpu_seconds"] / result["seconds"]) if threads == 1 else 0.0
    return run


def measure_server(plan: Plan, number: int, workload: Workload, server: Server) -> Run:
    """Start a server, send it the workload's loads, end it."""
    processes, threads = server.shape(plan.processes or workload.processes, plan.threads or workload.threads)
    server_cores, _ = plan.cores(workload)
    run = Run(number, workload.name, server.name, processes, threads)
    with TemporaryDirectory(prefix="spawning-benchmark-") as name:
        port, scratch = free_port(), Path(name)
        launch = Launch(workload.app, port, processes, threads, scratch)
        run.command = on_cores(server_cores, server.command(launch))
        output = scratch / "output"
        with process_tree(run.command, ROOT, output, {"PYTHONPATH": str(ROOT)}) as root:
            try:
                wait_until_ready(root, port)
                ends_with_connection = [warm_up(load, port) for load in workload.loads]
                with idle_connections(workload.idle_connections, port, root.pid) as cost:
                    run.remark = cost
                    send_loads(plan, workload, port, root.pid, run)
                if any(ends_with_connection):
                    disregard_read_errors(run)
                if root.poll() is not None:
                    raise LoadError(f"the server ended during the run, exit status {root.returncode}")
            except LoadError as error:
                said = output.read_text(errors="replace").strip().rpartition("\n")[2]
                run.fault = f"{error}{'; it said: ' + said if said else ''}"
    return run


def send_loads(plan: Plan, workload: Workload, port: int, root_pid: int, run: Run) -> None:
    """Run all of the workload's load generators at once and book the CPU time that went by meanwhile."""
    server_cores, load_cores = plan.cores(workload)
    cpu_start, load_cpu_start = cpu_ns(root_pid), ended_children_cpu_ns()
    busy_start, load_busy_start = core_busy_ns(server_cores), core_busy_ns(load_cores)
    start = time.monotonic_ns()
    commands = [load_command(load, port, plan.seconds, plan.connections) for load in workload.loads]
    outputs = run_together([on_cores(load_cores, command) for command in commands], plan.seconds)
    cpu, load_cpu = cpu_ns(root_pid) - cpu_start, ended_children_cpu_ns() - load_cpu_start
    elapsed = time.monotonic_ns() - start
    both = workload.shares_cores
    foreign = core_busy_ns(server_cores) - busy_start - cpu - both * load_cpu
    load_foreign = core_busy_ns(load_cores) - load_busy_start - load_cpu - both * cpu

    for load, output in zip(workload.loads, outputs, strict=True):
        run.outcomes[load.label] = parse_outcome(load, output)
    requests = sum(outcome.requests for outcome in run.outcomes.values())
    if requests == 0:
        raise LoadError("no request was answered")
    run.cpu_us_per_request = cpu / 1000 / requests
    run.foreign_share = max(
        0.0, foreign / elapsed / len(server_cores), load_foreign / elapsed / len(load_cores)
    )


def disregard_read_errors(run: Run) -> None:
    """Take out what wrk books for answers that are whole, and say so."""
    run.outcomes = {label: outcome.without_read_errors() for label, outcome in run.outcomes.items()}
    run.remark = "answers end with the connection, so wrk cannot tell read errors, and none are counted"
