"""The command: `python -m benchmarks WHAT`; `--help` lists what there is to measure."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

from .environment import SetupError, enter_virtualenv, install, install_load_tools
from .measure import RUN_OVERHEAD_S, Plan, Run, measure
from .progress import Progress
from .servers import CEILING, CONNECTIONS_MAX, SERVERS, Server, server_named
from .workloads import SUITE, SWEEP, WORKLOADS, Workload, workload_named

OURS = "spawning"
PEERS = tuple(server.name for server in SERVERS if server.name != OURS)
SWEEP_PEERS = ("granian", "uwsgi")
CONVOY_PEERS = ("granian", "gunicorn", "waitress", "uwsgi", "peregrine")
CONVOY_THREADS = 8
CONVOY_SECONDS = 5
SUITE_ROUNDS = 3
SUITE_SECONDS_MAX = 3
INTERRUPTED = 128 + signal.SIGINT
"""The exit status of a command that a signal ended, as shells report it."""


def main() -> int:
    """Set up, measure, report; returns the exit status."""
    options = parse(sys.argv[1:])
    progress = Progress()
    # The default action would leave servers behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        enter_virtualenv(progress)
        return compare(options, progress)
    except SetupError as error:
        progress.note(f"benchmarks: {error}")
        return 1
    except KeyboardInterrupt:
        progress.note("benchmarks: interrupted")
        return INTERRUPTED


def compare(options: argparse.Namespace, progress: Progress) -> int:
    """Measure what the options ask for and print the report."""
    # matplotlib is only in the virtualenv, which `main` has entered by now.
    from .report import RESULTS, Measurement, write_report
    from .sweep import sweep

    install_load_tools(progress)
    servers, skipped = install_all(options, progress)
    if options.what == "convoy":
        from .convoy import convoy

        seconds = options.seconds or CONVOY_SECONDS
        print(convoy(servers, options.processes or 1, options.threads or CONVOY_THREADS, seconds, progress))
        return 0
    plan = make_plan(options, servers)
    names = [server.name for server in servers]
    reference = CEILING if options.what == "django-ceiling" else next(iter(names), CEILING)

    if options.what == "threads":
        print(sweep(plan, progress))
        return 0

    runs: list[Run] = []
    remarks = []
    status = 0
    try:
        for run in measure(plan, progress.bar):
            runs.append(run)
    except KeyboardInterrupt:
        remarks.append(f"**Interrupted** after {len(runs)} of {plan.run_count()} runs.")
        status = INTERRUPTED
    if plan.deadline_s is not None and time.monotonic() > plan.deadline_s:
        remarks.append(f"Stopped at the deadline after {len(runs)} of {plan.run_count()} runs.")
    if set(plan.server_cores) & set(plan.load_cores):
        remarks.append("**Server and load generator share a core**: these numbers compare nothing.")
    progress.clear()
    if not runs:
        raise SetupError(
            "nothing was measured: " + "; ".join(f"{name}: {why}" for name, why in skipped.items())
        )

    print(write_report(Measurement(options.what, plan, reference, runs, skipped, remarks)))
    progress.note(f"written: {RESULTS}/{options.what}.md, .json, .svg")
    return status


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    lines = [f"  {workload.name:16}{workload.about}" for workload in WORKLOADS]
    lines += [f"  {'django-ceiling':16}Django's plain view on {OURS} against the bare loop"]
    lines += [
        f"  {'threads':16}1 to 64 threads: 1 ms of Python, 10 ms off the GIL, mixed (peers: granian, uwsgi)"
    ]
    lines += [f"  {'convoy':16}an instant view beside one that computes between system calls"]
    lines += [f"  {'suite':16}{', '.join(SUITE)}; within --minutes"]
    lines += [f"  {'full':16}every workload on every server"]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare WSGI servers on this machine, each on the same cores, in turn.",
        epilog="\n".join(["what to measure:", *lines, "", f"peers: {', '.join(PEERS)}"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [workload.name for workload in WORKLOADS]
    add = parser.add_argument
    add(
        "what",
        choices=[*names, "django-ceiling", "threads", "convoy", "suite", "full"],
        metavar="WHAT",
        help="see below",
    )
    add(
        "--peers",
        type=peers,
        metavar="NAME,...",
        help="servers beside this one; `none` for none",
    )
    add("--without-spawning", action="store_true", help="compare the peers only")
    add("--ceiling", action="store_true", help="run the bare loop too (suite, full: always)")
    add("--rounds", type=within(1, 100), help=f"default 5, suite and threads {SUITE_ROUNDS}")
    add("--seconds", type=within(1, 60), help="of load in each run; default 3, suite: what fits")
    add(
        "--minutes",
        type=within(1, 240),
        default=10,
        help="bound of the suite, without its set-up; default 10",
    )
    add("--processes", type=within(1, 64), help="default: as the workload says")
    add("--threads", type=within(1, 256), help="default: as the workload says")
    add("--connections", type=within(1, CONNECTIONS_MAX), help="default: as the workload says")
    add(
        "--server-cores", type=cores, metavar="N,...", help="default: as many as processes, from the first on"
    )
    add("--load-cores", type=cores, metavar="N,...", help="default: the last one")
    return parser.parse_args(arguments)


def within(least: int, most: int) -> Callable[[str], int]:
    """Return a reader of whole numbers in those bounds."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return read


def peers(text: str) -> tuple[str, ...]:
    """Read a list of peers."""
    names = tuple(name for name in text.split(",") if name not in {"", "none"})
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PEERS)}")
    return names


def cores(text: str) -> tuple[int, ...]:
    """Read a list of cores that this process may run on."""
    allowed = {str(core): core for core in os.sched_getaffinity(0)}
    try:
        return tuple(allowed[core] for core in text.split(","))
    except KeyError as error:
        raise argparse.ArgumentTypeError(
            f"{error.args[0]!r} is none of the cores {', '.join(allowed)}"
        ) from None


def install_all(options: argparse.Namespace, progress: Progress) -> tuple[list[Server], dict[str, str]]:
    """Install who shall take part; returns who can, and why the others cannot."""
    names = [] if options.without_spawning else [OURS]
    if options.peers is not None:
        names += options.peers
    elif options.what != "django-ceiling":
        names += {"threads": SWEEP_PEERS, "convoy": CONVOY_PEERS}.get(options.what, PEERS)
    servers, skipped = [], {}
    for server in map(server_named, names):
        reason = install(server, progress)
        if reason is None:
            servers.append(server)
        else:
            skipped[server.name] = reason
            progress.note(f"skipping {server.name}: {reason}")
    return servers, skipped


def make_plan(options: argparse.Namespace, servers: Sequence[Server]) -> Plan:
    """Return the plan that the options describe."""
    workloads = workloads_of(options.what)
    ceiling = options.ceiling or options.what in {"django-ceiling", "suite", "full"}
    few = options.what in {"suite", "threads"}
    rounds, seconds, deadline_s = options.rounds or (SUITE_ROUNDS if few else 5), options.seconds or 3, None
    if options.what == "suite":
        runs = rounds * sum(
            len(servers) + (ceiling and bool(workload.ceiling_threads)) for workload in workloads
        )
        seconds = options.seconds or seconds_that_fit(options.minutes * 60, runs)
        deadline_s = time.monotonic() + options.minutes * 60
    server_cores, load_cores = share_cores(options)
    return Plan(
        servers=servers,
        workloads=workloads,
        rounds=rounds,
        seconds=seconds,
        server_cores=server_cores,
        load_cores=load_cores,
        ceiling=ceiling,
        processes=options.processes,
        threads=options.threads,
        connections=options.connections,
        deadline_s=deadline_s,
    )


def workloads_of(what: str) -> list[Workload]:
    """Return the workloads that a word of the command line stands for."""
    if what == "full":
        return list(WORKLOADS)
    names = {"suite": SUITE, "django-ceiling": ("django",), "threads": SWEEP}.get(what, (what,))
    return [workload_named(name) for name in names]


def seconds_that_fit(budget_s: float, runs: int) -> int:
    """Return how many whole seconds of load each of `runs` can have; a deadline cuts off the rest."""
    return max(1, min(SUITE_SECONDS_MAX, int(budget_s / max(runs, 1) - RUN_OVERHEAD_S)))


def share_cores(options: argparse.Namespace) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the cores of the servers and those of the load generator."""
    allowed = sorted(os.sched_getaffinity(0))
    load_cores = options.load_cores or (allowed[-1],)
    rest = [core for core in allowed if core not in load_cores] or allowed
    return options.server_cores or tuple(rest[: options.processes or 1]), load_cores


if __name__ == "__main__":
    sys.exit(main())
