"""Variables of platforms: `PORT`, `HOST` and `WEB_CONCURRENCY`, which every other source overrules."""

from __future__ import annotations

import socket

import pytest

from conftest import ServerFactory
from server import run_to_end


@pytest.fixture
def free_port() -> str:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return str(reserved.getsockname()[1])


def origins(*words: str, **variables: str) -> dict[str, tuple[str, ...]]:
    """Value and source of each option, as `--print-config` tells them."""
    ended = run_to_end("--print-config", *words, "apps.hello:app", environment=variables)
    assert ended.returncode == 0, ended.stderr
    rows = (line.split(maxsplit=2) for line in ended.stdout.splitlines())
    return {row[0]: tuple(row[1:]) for row in rows}


def test_port_and_number_of_processes_are_the_platforms(
    server_factory: ServerFactory, free_port: str
) -> None:
    variables = {"PORT": free_port, "WEB_CONCURRENCY": "3"}
    server = server_factory("apps.hello:app", environment=variables, port=False)
    assert server.address == ("0.0.0.0", int(free_port))
    assert len(server.processes()) == 4
    assert server.get("/").body == b"Hello"


def test_print_config_says_which_variable_an_option_comes_from() -> None:
    told = origins(PORT="8000", WEB_CONCURRENCY="3", SCRIPT_NAME="/a")
    assert told["port"] == ("8000", "PORT")
    assert told["host"] == ("0.0.0.0", "PORT")
    assert told["processes"] == ("3", "WEB_CONCURRENCY")
    assert told["script-name"] == ("/a", "SCRIPT_NAME")
    assert origins(PORT="8000", HOST="::1")["host"] == ("::1", "HOST")
    assert origins(HOST="x86_64-conda-linux-gnu")["host"] == ("127.0.0.1", "default")


def test_every_other_source_overrules_the_platform() -> None:
    told = origins("-p80", "-s2", PORT="8000", HOST="10.0.0.1", WEB_CONCURRENCY="3")
    assert (told["port"], told["processes"]) == (("80", "command line"), ("2", "command line"))
    # A port chosen on purpose is not opened to other machines because there is a PORT.
    assert origins("-p80", PORT="8000")["host"] == ("127.0.0.1", "default")
    assert origins(PORT="8000", SPAWN_PORT="81")["port"] == ("81", "SPAWN_PORT")
    told = origins("-b127.0.0.1:82", PORT="8000", HOST="10.0.0.1")
    assert (told["port"], told["host"]) == (("8080", "default"), ("127.0.0.1", "default"))


def test_a_mistake_names_the_variable() -> None:
    ended = run_to_end("apps.hello:app", environment={"PORT": "http"})
    assert ended.returncode == 64
    assert ended.stderr.startswith("spawn: PORT: "), ended.stderr
    ended = run_to_end("apps.hello:app", environment={"WEB_CONCURRENCY": "0"})
    assert ended.stderr.startswith("spawn: WEB_CONCURRENCY: 0 is too small"), ended.stderr
