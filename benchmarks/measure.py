"""Rounds of runs: all servers of a workload are up, and loaded in turn for short slices, one at a time.

What changes on the machine changes for all of them: a ratio within a round compares what was seconds apart.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory

from .environment import ROOT
from .idle import idle_connections
from .load import LoadError, Outcome, load_command, parse_outcome, run_together
from .probe import free_port, wait_until_ready, warm_up
from .process_tree import core_busy_ns, cpu_ns, ended_children_cpu_ns, on_cores, process_tree
from .servers import CEILING, Launch, Server, program
from .workloads import Workload

RUN_OVERHEAD_S = 0.5
"""What a run takes beside its load, its part of start, warm-up and stop included. For the time left."""


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

    def turns(self, workload: Workload, number: int) -> list[Server | None]:
        """Return who runs `workload` in the order of that round: they change places from round to round."""
        contestants = self.contestants(workload)
        shift = number % max(len(contestants), 1)
        return contestants[shift:] + contestants[:shift]

    def run_count(self) -> int:
        """Return how many runs there are."""
        return self.rounds * sum(len(self.contestants(workload)) for workload in self.workloads)


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


@dataclass
class Running:
    """A server that is up, or why it is not."""

    server: Server
    processes: int
    threads: int
    port: int
    command: list[str]
    output: Path
    root: Popen[bytes] | None = None
    ends_with_connection: bool = False
    """Whether only the end of the connection ends an answer."""
    remark: str | None = None
    fault: str | None = None

    def fail(self, error: LoadError) -> None:
        """Take no part any more."""
        said = self.output.read_text(errors="replace").strip().rpartition("\n")[2]
        self.fault = f"{error}{'; it said: ' + said if said else ''}"

    def run(self, number: int, workload: Workload) -> Run:
        """Return a run of this server, without results yet."""
        return Run(
            number,
            workload.name,
            self.server.name,
            self.processes,
            self.threads,
            command=self.command,
            remark=self.remark,
            fault=self.fault,
        )


def measure(plan: Plan, on_run: Callable[[int, int, str, float], None]) -> Iterator[Run]:
    """Do all runs of the plan; `on_run` is told before each: number, of how many, what, seconds left."""
    done = 0
    for workload in plan.workloads:
        with ExitStack() as stack:
            up = {server.name: start(stack, plan, workload, server) for server in plan.servers}
            for number in range(plan.rounds):
                for server in plan.turns(workload, number):
                    name = CEILING if server is None else server.name
                    left = (plan.run_count() - done) * (plan.seconds + RUN_OVERHEAD_S)
                    if plan.deadline_s is not None:
                        if time.monotonic() > plan.deadline_s:
                            return
                        left = min(left, plan.deadline_s - time.monotonic())
                    what = f"{workload.name} on {name}, round {number + 1} of {plan.rounds}"
                    on_run(done, plan.run_count(), what, left)
                    done += 1
                    yield (
                        measure_ceiling(plan, number, workload)
                        if server is None
                        else measure_server(plan, number, workload, up[name])
                    )


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


def start(stack: ExitStack, plan: Plan, workload: Workload, server: Server) -> Running:
    """Start a server that runs until `stack` ends, and warm it up."""
    processes, threads = server.shape(plan.processes or workload.processes, plan.threads or workload.threads)
    scratch = Path(stack.enter_context(TemporaryDirectory(prefix="spawning-benchmark-")))
    port = free_port()
    launch = Launch(workload.app, port, processes, threads, scratch)
    command = on_cores(plan.cores(workload)[0], server.command(launch))
    running = Running(server, processes, threads, port, command, scratch / "output")
    tree = process_tree(command, ROOT, running.output, {"PYTHONPATH": str(ROOT)})
    running.root = root = stack.enter_context(tree)
    try:
        wait_until_ready(root, port)
        running.ends_with_connection = warm_up_all(workload, port)
        idle = idle_connections(workload.idle_connections, port, root.pid)
        running.remark = stack.enter_context(idle)
    except LoadError as error:
        running.fail(error)
    return running


def warm_up_all(workload: Workload, port: int) -> bool:
    """Warm up with each load; returns whether the end of the connection alone ends an answer to one."""
    ends_with_connection = [warm_up(load, port) for load in workload.loads]
    return any(ends_with_connection)


def measure_server(plan: Plan, number: int, workload: Workload, running: Running) -> Run:
    """Send the workload's loads to a server that is up."""
    run = running.run(number, workload)
    root = running.root
    if root is None or running.fault is not None:
        return run
    try:
        send_loads(plan, workload, running.port, root.pid, run)
        if running.ends_with_connection:
            disregard_read_errors(run)
        if root.poll() is not None:
            raise LoadError(f"the server ended during the run, exit status {root.returncode}")
    except LoadError as error:
        running.fail(error)
        run.fault = running.fault
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
