"""Fixtures of the black-box tests."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from server import TESTS, Server


class ServerFactory(Protocol):
    """Starts a server and returns it when it is ready; see `Server` for the parameters."""

    def __call__(
        self,
        app: str = "apps.hello:app",
        *arguments: str,
        cwd: Path = TESTS,
        environment: Mapping[str, str] | None = None,
        wait: bool = True,
        wrapper: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        port: bool = True,
        program: Sequence[str] = (),
    ) -> Server:
        """Start `spawn *arguments app` in `cwd`."""


@pytest.fixture
def server_factory() -> Iterator[ServerFactory]:
    """Starts servers, and ends every one of them with the test. A failed test shows what they printed."""
    servers: list[Server] = []

    def start(
        app: str = "apps.hello:app",
        *arguments: str,
        cwd: Path = TESTS,
        environment: Mapping[str, str] | None = None,
        wait: bool = True,
        wrapper: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        port: bool = True,
        program: Sequence[str] = (),
    ) -> Server:
        server = Server(
            app,
            *arguments,
            cwd=cwd,
            environment=environment,
            wait=False,
            wrapper=wrapper,
            pass_fds=pass_fds,
            port=port,
            program=program,
        )
        servers.append(server)
        if wait:
            server.wait_until_ready()
        return server

    yield start

    for server in servers:
        server.kill()
        # pytest captures this and shows it for failed tests only.
        print(f"{server.command}\n--- stdout\n{server.stdout_text()}\n--- stderr\n{server.stderr_text()}")
    for server in servers:
        assert "panicked at" not in server.stderr_text()
