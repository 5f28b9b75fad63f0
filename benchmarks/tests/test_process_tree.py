"""No process of a server outlives its run, and the CPU time of all of them is counted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from ..process_tree import cpu_ns, every_process, members, process_tree

TIMEOUT_S = 20


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll until `condition` holds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_children_orphans_and_sessions_of_their_own_end_with_the_run(tmp_path: Path) -> None:
    """Servers double-fork, leave orphans behind and ignore SIGTERM."""
    script = "trap '' TERM; sleep 600 & (sleep 600 &) ; setsid sleep 600 & wait"
    with process_tree(["sh", "-c", script], tmp_path, tmp_path / "output", {}) as root:
        wait_for(lambda: len(members(root.pid)) == 4)
        pids = members(root.pid)
    assert not pids & every_process().keys()


def test_a_server_that_ends_on_sigterm_is_not_killed(tmp_path: Path) -> None:
    """So that it may clean up after itself."""
    script = (
        "import signal, sys; signal.signal(15, lambda *_: sys.exit(3)); "
        f"open('{tmp_path}/up', 'w'); signal.pause()"
    )
    with process_tree([sys.executable, "-c", script], tmp_path, tmp_path / "output", {}) as root:
        wait_for((tmp_path / "up").exists)
    assert root.returncode == 3


def test_cpu_time_of_children_and_of_ended_threads_is_counted(tmp_path: Path) -> None:
    """A thread's schedstat goes with it, the child's is the child's own."""
    busy = "def busy():\n end = time.thread_time() + 0.2\n while time.thread_time() < end: pass\n"
    script = (
        f"import os, signal, threading, time\n{busy}"
        "thread = threading.Thread(target=busy); thread.start(); thread.join()\n"
        f"if os.fork() == 0: busy(); open('{tmp_path}/done', 'w')\n"
        "signal.pause()"
    )
    with process_tree([sys.executable, "-c", script], tmp_path, tmp_path / "output", {}) as root:
        wait_for((tmp_path / "done").exists)
        assert cpu_ns(root.pid) >= 0.36e9
