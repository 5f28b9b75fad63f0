"""Handlers of the application, and signals of the supervisor whatever runs beside it."""

from __future__ import annotations

import os
import signal

import pytest

from conftest import ServerFactory


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
