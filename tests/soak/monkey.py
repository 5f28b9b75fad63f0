"""An application that misbehaves at random for ten minutes, with reloads: `make soak`.

Every request that was not held by a view that misbehaves is answered, and in the end the server is as healthy
as in the beginning: descriptors, memory, threads, processes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ServerFactory
from load import Load
from server import Server
from test_process_life import eventually, workers

MONKEY_S = float(os.environ.get("MONKEY_S", "600"))
FIRST_SEED = int(os.environ.get("MONKEY_SEED", str(time.time_ns() % 1_000_000)))
RELOAD_PAUSE_S = 10.0
MONKEYS = 3
PROCESSES, THREADS = 2, 8
MEMORY_GROWTH_KIB_MAX = 4096
#: How a client of a misbehaving view may find its connection.
CUT = (OSError, AssertionError)

pytestmark = pytest.mark.timeout(MONKEY_S + 300)


@dataclass(frozen=True)
class Health:
    """What the processes of a server hold, the supervisor's first."""

    processes: int
    descriptors: list[int]
    threads: list[int]
    memory_kib: list[int]


def health_of(server: Server) -> Health:
    pids = sorted(server.processes(), key=lambda pid: (pid != server.pid, pid))
    status = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    fields = [dict(line.split(":", 1) for line in text.splitlines()) for text in status]
    return Health(
        processes=len(pids),
        descriptors=[len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids],
        threads=[int(field["Threads"]) for field in fields],
        memory_kib=[int(field["RssAnon"].split()[0]) for field in fields],
    )


def settled(server: Server) -> Health:
    """The health of a generation that has just come, when the last one and its children are gone."""
    server.signal(signal.SIGHUP)
    time.sleep(1)
    assert eventually(lambda: len(server.processes()) == PROCESSES + 1), server.processes()
    workers(server, PROCESSES)
    assert server.get("/").body == b"honest"
    return health_of(server)


@contextlib.contextmanager
def monkeys(server: Server) -> Iterator[Counter[str]]:
    """Clients that ask for misdeeds, and count what became of them."""
    seeds, outcomes, ended = itertools.count(FIRST_SEED), Counter[str](), threading.Event()

    def ask() -> None:
        while not ended.is_set():
            try:
                outcomes[str(server.get(f"/misbehave?{next(seeds)}").status)] += 1
            except CUT as error:
                outcomes[type(error).__name__] += 1

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(MONKEYS)]
    for thread in threads:
        thread.start()
    yield outcomes
    ended.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a client of a misbehaving view is left hanging"


def test_an_application_that_misbehaves_harms_only_its_own_requests(server_factory: ServerFactory) -> None:
    server = server_factory("apps.monkey:app", f"-s{PROCESSES}", f"-t{THREADS}", "-l/dev/null")
    before = settled(server)
    ends_at = time.monotonic() + MONKEY_S
    with Load(server.address, clients=4) as honest, monkeys(server) as outcomes:
        while time.monotonic() < ends_at:
            time.sleep(min(RELOAD_PAUSE_S, MONKEY_S / 3))
            server.signal(signal.SIGHUP)
            assert honest.failures == [], f"seeds from {FIRST_SEED}"
            honest.wait_for_more(10)
    assert honest.failures == [], f"seeds from {FIRST_SEED}"
    assert set(honest.bodies) == {b"honest"}
    end = settled(server)
    print(
        f"{honest.answered} honest requests; misbehaving: {dict(outcomes)}; before {before}, in the end {end}"
    )
    assert (end.processes, end.descriptors, end.threads) == (
        before.processes,
        before.descriptors,
        before.threads,
    )
    grown = [after - was for was, after in zip(before.memory_kib, end.memory_kib, strict=True)]
    assert max(grown) <= MEMORY_GROWTH_KIB_MAX, grown
    server.stop()
