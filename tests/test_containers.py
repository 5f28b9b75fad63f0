"""A server in containers, with the engine's default profile and every limit that one is usually given."""

from __future__ import annotations

import os
import signal
import time

import pytest

from containers import Container, skip_without_engine
from load import Connection, Load
from service import eventually
from wire import CLOSE, HOST, message

pytestmark = pytest.mark.usefixtures("engine")

UPLOAD_BYTES = 20 << 20
RELOADS = 4
OPTIONS = {
    "the default profile": [],
    "a read-only root with a tmpfs": ["--read-only", "--tmpfs=/var/tmp:size=64m"],
    "a user without an account": ["--user=1000:1000"],
    "no capability and no new privileges": ["--cap-drop=ALL", "--security-opt=no-new-privileges"],
    "half a core": ["--cpus=0.5"],
    "little memory": ["--memory=512m", "--memory-swap=512m"],
    "few processes": ["--pids-limit=64"],
    "no shared memory": ["--ipc=none"],
    "an init of the engine's": ["--init"],
}


@pytest.fixture(scope="module")
def engine() -> None:
    skip_without_engine()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_it_serves_uploads_and_reloads_in_a_container_with(options: list[str]) -> None:
    with Container(options, ["-s2", "-t2"], "apps.input:app") as container:
        container.wait_until_ready()
        body = os.urandom(UPLOAD_BYTES)
        request = message("POST /echo?1048576 HTTP/1.1", HOST, CLOSE, f"Content-Length: {len(body)}")
        with Connection(container.address) as connection:
            response = connection.ask(request + body)
        assert response.status == 200
        assert response.body == body

        container.signal("HUP")
        container.wait_for_log("a new generation serves")
        assert container.get("/ignore").status == 200
        assert container.stop() == 0, container.logs()


def test_reloads_and_docker_stop_under_load_lose_no_request() -> None:
    with Container([], ["-s2", "-t4"]) as container:
        container.wait_until_ready()
        with Load(container.address) as load:
            for _ in range(RELOADS):
                container.signal("HUP")
                load.wait_for_more(200)
            assert load.failures == []
            stopped_at = time.monotonic()
            assert container.stop() == 0, container.logs()
        # Who connects while the server stops is refused, or waits in the kernel's queue until that closes.
        assert [opened_at for opened_at in load.failed_from if opened_at < stopped_at] == [], load.failures
        assert load.bodies[b"Hello"] > RELOADS * 200


def test_a_worker_that_the_memory_limit_kills_is_replaced() -> None:
    options = ["--memory=400m", "--memory-swap=400m"]
    with Container(options, ["-s1", "-t2"], "apps.trouble:app") as container:
        container.wait_until_ready()
        with Connection(container.address) as connection, pytest.raises(ConnectionError):
            connection.ask(message("GET /grow?600 HTTP/1.1", HOST, CLOSE))
        container.wait_for_log("a worker died")
        assert container.get("/grow?1").status == 200
        assert container.stop() == 0, container.logs()


@pytest.mark.parametrize("init", [[], ["--init"]], ids=["as process 1", "below an init"])
def test_orphans_are_reaped(init: list[str]) -> None:
    with Container(init, ["-s1", "-t2"], "apps.identity:app") as container:
        container.wait_until_ready()
        ordinary = container.processes()
        assert container.get("/orphan?600").status == 200
        (orphan,) = set(container.processes()) - set(ordinary)
        os.kill(orphan, signal.SIGKILL)
        assert eventually(lambda: container.processes() == ordinary), "and no zombie is left"
