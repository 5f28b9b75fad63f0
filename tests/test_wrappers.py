"""Behind the commands of agents that watch an application, while nobody collects what they send."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ServerFactory
from load import Load
from server import STOP_TIMEOUT_S, TESTS, Server
from test_process_life import eventually, workers

REQUIREMENTS = TESTS / "agents.txt"
INSTALL_TIMEOUT_S = 240
PR_SET_CHILD_SUBREAPER = 36
#: A port at which nobody listens; it is nobody's own (TCP Port Service Multiplexer).
NOWHERE = "127.0.0.1:1"


@dataclass(frozen=True)
class Wrapper:
    """A command that becomes the command behind it."""

    #: The beginning of the names of the packages that it needs.
    packages: str
    command: tuple[str, ...]
    environment: dict[str, str]


WRAPPERS = {
    "opentelemetry": Wrapper(
        "opentelemetry-",
        ("opentelemetry-instrument",),
        {
            "OTEL_SERVICE_NAME": "traced",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{NOWHERE}",
            # How long an exporter tries when its process ends.
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        },
    ),
    "ddtrace": Wrapper("ddtrace", ("ddtrace-run",), {"DD_TRACE_AGENT_URL": f"http://{NOWHERE}"}),
    "newrelic": Wrapper(
        "newrelic",
        ("newrelic-admin", "run-program"),
        {
            "NEW_RELIC_APP_NAME": "traced",
            "NEW_RELIC_LICENSE_KEY": "0" * 40,
            "NEW_RELIC_HOST": NOWHERE.partition(":")[0],
            "NEW_RELIC_PORT": NOWHERE.partition(":")[2],
        },
    ),
}


def installed(packages: str) -> Path:
    """The directory with the packages of that name, installed when it is asked for the first time."""
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line.startswith(packages)]
    version = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]
    directory = Path(sys.prefix, "agents", f"{packages.rstrip('-')}-{version}")
    if not directory.exists():
        unfinished = directory.with_suffix(".unfinished")
        command = ["pip", "install", "--quiet", "--no-compile", "--target", str(unfinished)]
        subprocess.run([sys.executable, "-m", *command, *lines], timeout=INSTALL_TIMEOUT_S, check=True)
        unfinished.rename(directory)
    return directory


@pytest.fixture(params=WRAPPERS)
def server(request: pytest.FixtureRequest, server_factory: ServerFactory) -> Server:
    """A server that was started by one of the commands."""
    wrapper = WRAPPERS[request.param]
    directory = installed(wrapper.packages)
    command = [str(directory / "bin" / wrapper.command[0]), *wrapper.command[1:]]
    environment = {**wrapper.environment, "PYTHONPATH": str(directory)}
    server = server_factory("apps.traced:app", "-s1", "-t2", wrapper=command, environment=environment)
    assert answer(server)["followed_by"] == [request.param], "the agent is not at work"
    return server


def answer(server: Server) -> dict[str, object]:
    response = server.get("/")
    assert response.status == 200, response
    answered: dict[str, object] = json.loads(response.body)
    return answered


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Processes that lose their parent become children of this one, which can then wait for them."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    assert prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


@pytest.mark.timeout(300 + INSTALL_TIMEOUT_S)
def test_a_server_behind_an_agent_is_reloaded_replaced_and_stopped(server: Server) -> None:
    with adopting():
        with Load(server.address, clients=2) as load:
            load.wait_for_more(5)
            server.signal(signal.SIGHUP)
            server.wait_for_log("a new generation serves.*generation=2")
            server.signal(signal.SIGUSR1)
            server.wait_for_log("log files reopened")
            load.wait_for_more(5)
        assert load.failures == []

        (killed,) = workers(server, 1)
        os.kill(killed, signal.SIGKILL)
        server.wait_for_log(f"a worker died.*worker_pid={killed}")
        assert answer(server)["pid"] != killed

        with Load(server.address, clients=2) as load:
            server.signal(signal.SIGUSR2)
            heir = int(server.wait_for_log(r"this one drains its workers and exits.*successor_pid=(\d+)")[1])
            assert server.wait() == 0
            load.wait_for_more(5)
        assert load.failures == []

        os.kill(heir, signal.SIGTERM)
        assert exit_status(heir) == 0
    assert eventually(lambda: not server.processes())
    told = [line for line in server.stderr_text().splitlines() if "level=ERROR" in line]
    assert len(told) == 1, "no error but the worker's death"
    assert "Traceback" not in server.stderr_text()


def exit_status(pid: int) -> int:
    """Wait for the end of an adopted process."""
    pidfd = os.pidfd_open(pid)
    assert select.select([pidfd], [], [], STOP_TIMEOUT_S)[0], f"{pid} still runs"
    os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
