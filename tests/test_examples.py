"""The command lines of the manual of Spawning 0.9, and of what was written about it, word for word."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import TESTS
from test_paste import ini

BIN = Path(sys.executable).parent

APPLICATIONS = """\
def my_wsgi_application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ.get("test.passed", "plain").encode()]

my_comet_application = my_wsgi_application
"""
MIDDLEWARE = """\
def some_wsgi_middleware(application):
    def middleware(environ, start_response):
        environ["test.passed"] = "passed"
        return application(environ, start_response)
    return middleware
"""
DJANGO = "from django.http import HttpResponse\nfrom django.urls import path\n\nurlpatterns = [" + (
    'path("", lambda request: HttpResponse("django"))]\n'
)
WITH = "spawn --factory=spawning."

COMMAND_LINES = {
    "spawn my_wsgi_module.my_wsgi_application": b"plain",
    "spawning my_wsgi_module.my_wsgi_application": b"plain",
    WITH + "paste_factory.config_factory development.ini": b"Hello there",
    "spawning --factory=spawning.paste_factory.config_factory development.ini": b"Hello there",
    WITH + "django_factory.config_factory mysite.settings": b"django",
    "spawning --factory=spawning.django_factory.config_factory mysite.settings": b"django",
    WITH + "django_factory.config_factory settings --port 9090 -s 4 -t 100": b"django",
    "spawn my_wsgi_module.my_wsgi_application other_wsgi_module.some_wsgi_middleware": b"passed",
    "spawning my_wsgi_module.my_wsgi_application other_wsgi_module.some_wsgi_middleware": b"passed",
    "sudo spawn --port=80 --processes=4 --threads=8 my_wsgi_module.my_wsgi_application": b"plain",
    "sudo spawning --port=80 --processes=4 --threads=8 my_wsgi_module.my_wsgi_application": b"plain",
    "spawn --processes=4 --threads=0 my_wsgi_module.my_comet_application": b"plain",
    "spawning --processes=4 --threads=0 my_wsgi_module.my_comet_application": b"plain",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with everything that the command lines name."""
    directory = tmp_path_factory.mktemp("project")
    (directory / "my_wsgi_module.py").write_text(APPLICATIONS)
    (directory / "other_wsgi_module.py").write_text(MIDDLEWARE)
    ini(directory, "num_processes = 1\n")
    command = [sys.executable, "-m", "django", "startproject", "mysite", str(directory)]
    subprocess.run(command, check=True)
    (directory / "mysite" / "urls.py").write_text(DJANGO)
    return directory


def may_listen(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_example_runs_word_for_word(server_factory: ServerFactory, project: Path, line: str) -> None:
    """Run by root, where it says `sudo`. A line that names no port gets one by the environment."""
    command, *words = shlex.split(line.removeprefix("sudo "))
    if (named := re.search(r"--port[= ](\d+)", line)) and not may_listen(int(named[1])):
        pytest.skip(f"port {named[1]} is taken, or needs root")
    path = [str(TESTS), str(project)]
    server = server_factory(
        words[-1],
        *words[:-1],
        cwd=project / "mysite" if "settings" in words else project,
        environment={"PYTHONPATH": os.pathsep.join(path), **({} if named else {"SPAWN_PORT": "0"})},
        program=[str(BIN / command)],
    )
    if named:
        assert server.address[1] == int(named[1])
    page = "/hello/there" if "development.ini" in words else "/"
    assert server.get(page).body == COMMAND_LINES[line]
