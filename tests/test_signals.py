"""Handlers of the application, and signals of the supervisor whatever runs beside it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import Server
from test_process_life import eventually


@pytest.mark.parametrize("mode", ["-t2", "-t0"])
@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGTERM"])
def test_a_handler_that_the_application_set_in_c_is_kept(
    server_factory: ServerFactory, name: str, mode: str
) -> None:
    environment = {"DUMP_STACKS_ON": name}
    server = server_factory("apps.handlers:app", "-s1", mode, "-l/dev/null", environment=environment)
    worker = server.get("/").body
    os.kill(int(worker), getattr(signal, name))
    server.wait_for_log(r"most recent call first")
    assert server.get("/").body == worker


def next_worker(server: Server, before: bytes) -> bytes:
    """The worker that answers after `before`."""
    answers = []

    def is_another() -> bool:
        try:
            answers.append(server.get("/").body)
        except OSError:
            return False
        return answers[-1] != before

    assert eventually(is_another)
    return answers[-1]


def test_signals_arrive_though_threads_were_there_before(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    """As wrappers of monitoring vendors start them: none has a signal blocked."""
    (tmp_path / "sitecustomize.py").write_text(
        "import threading\n"
        "for _ in range(3):\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    environment = {"PYTHONPATH": str(tmp_path)}
    server = server_factory("apps.handlers:app", "-s1", "-l/dev/null", environment=environment)
    assert len(list(Path(f"/proc/{server.pid}/task").iterdir())) >= 4
    worker = server.get("/").body
    for _ in range(3):
        os.kill(int(worker), signal.SIGKILL)
        worker = next_worker(server, worker)
    server.signal(signal.SIGHUP)
    worker = next_worker(server, worker)
    server.signal(signal.SIGUSR1)
    server.wait_for_log("log files reopened")
    server.signal(signal.SIGUSR2)
    server.wait_for_log("the new supervisor is serving")
    assert server.wait() == 0
