"""A server and all of its processes: started on given cores, their CPU time read, ended together."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

STOP_TIMEOUT_S = 5.0
"""How long a server may take to end on SIGTERM before it is killed."""

POLL_S = 0.01

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Stat:
    """What is needed of /proc/PID/stat; proc(5)."""

    parent: int
    session: int
    cpu_ns: int
    """User and system time, rounded down to clock ticks."""


def on_cores(cores: Sequence[int], command: Sequence[str]) -> list[str]:
    """Return `command` bound to those cores."""
    return ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]


@contextmanager
def process_tree(
    command: Sequence[str], cwd: Path, output: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command with its output in a file; at the end every process that came of it is gone."""
    with output.open("wb") as file:
        root = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield root
    finally:
        stop(root)


def stop(root: subprocess.Popen[bytes]) -> None:
    """End a tree: politely at its root, then each process that is left; returns when all are dead."""
    pids = members(root.pid)
    try:
        root.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while (root.poll() is None or pids & every_process().keys()) and time.monotonic() < deadline:
            time.sleep(POLL_S)
    finally:
        while left := (pids | members(root.pid)) & every_process().keys():
            for pid in left:
                kill(pid)
            root.poll()
            time.sleep(POLL_S)


def resident_bytes(root_pid: int) -> int:
    """Return the memory of a tree, pages that its processes share counted once (PSS)."""
    total_kib = 0
    for pid in members(root_pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total_kib += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total_kib * 1024


def kill(pid: int) -> None:
    """Kill a process that may be gone already."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def members(root_pid: int) -> set[int]:
    """Return the pids of `root_pid`'s descendants and of its session, which orphans stay in."""
    processes = every_process()

    def belongs(pid: int) -> bool:
        while pid in processes:
            if pid == root_pid or processes[pid].session == root_pid:
                return True
            pid = processes[pid].parent
        return False

    return {pid for pid in processes if belongs(pid)}


def every_process() -> dict[int, Stat]:
    """Return all processes of the machine that are alive."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := read_stat(entry)) is not None:
            found[int(entry.name)] = stat
    return found


def read_stat(directory: Path) -> Stat | None:
    """Read /proc/PID/stat, or `None` when the process is gone or a zombie."""
    try:
        text = (directory / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name, the second field, may hold spaces and brackets: the numbers follow the last bracket.
    fields = text.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    parent, session, user, system = (int(fields[index]) for index in (1, 3, 11, 12))
    return Stat(parent, session, (user + system) * NS_PER_S // TICKS_PER_S)


def cpu_ns(root_pid: int) -> int:
    """Return the CPU time that a tree has used so far, in nanoseconds."""
    processes = every_process()
    return sum(process_cpu_ns(pid, processes[pid]) for pid in members(root_pid) & processes.keys())


def process_cpu_ns(pid: int, stat: Stat) -> int:
    """Return the CPU time of one process.

    schedstat is exact but forgets threads that have ended, stat remembers those but counts clock ticks.
    """
    threads = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            threads += int(path.read_text().split()[0])
        except OSError:
            continue
    return max(threads, stat.cpu_ns)


def ended_children_cpu_ns() -> int:
    """Return the CPU time of this process's children that have ended, such as load generators."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round((usage.ru_utime + usage.ru_stime) * NS_PER_S)


def core_busy_ns(cores: Sequence[int]) -> int:
    """Return for how long those cores were not idle since boot; what a hypervisor took from them counts."""
    busy = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *numbers = line.split()
        if name.removeprefix("cpu").isdigit() and int(name.removeprefix("cpu")) in cores:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, numbers[:8])
            busy += user + nice + system + irq + softirq + steal
    return busy * NS_PER_S // TICKS_PER_S
