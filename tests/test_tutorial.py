"""The tutorial, done as it says: its files written, its commands run, its servers asked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import TESTS

TUTORIAL = (TESTS.parent / "docs" / "tutorial.md").read_text()
FILE = re.compile(r"^`([\w./]+)`(?:,[^`\n]*\n?[^`\n]*)?:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def section(number: int) -> str:
    """One section of the page."""
    return TUTORIAL.split("\n## ")[number]


def commands(text: str) -> list[str]:
    """The lines of all its shell blocks."""
    return [line for block in COMMANDS.findall(text) for line in block.splitlines()]


def write_files(text: str, directory: Path) -> set[str]:
    """Write the files whose names stand before their text; return the names."""
    files = dict(FILE.findall(text))
    for name, content in files.items():
        (directory / name).write_text(content)
    return set(files)


def run(lines: list[str], directory: Path) -> str:
    """Run the lines in one shell that finds this virtualenv's commands first; return what they print."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", "\n".join(lines)],
        cwd=directory,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=180,
        check=True,
    ).stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The directory after section 3."""
    lines = commands(section(3))
    assert lines[0] == "django-admin startproject mysite ."
    run([line for line in lines if re.search("startproject|migrate", line)], tmp_path)
    return tmp_path


def test_something_to_serve(server_factory: ServerFactory, tmp_path: Path) -> None:
    assert write_files(section(2), tmp_path) == {"hello.py"}
    assert commands(section(2)) == ["spawn hello"]
    server = server_factory("hello", cwd=tmp_path, environment={"SPAWN_PORT": "0"})
    assert len(server.stderr_text().splitlines()) == 3
    assert server.get("/").body == b"Hello\n"
    server.wait_for_log(r'"GET / HTTP/1\.1" 200')


def test_a_django_project(server_factory: ServerFactory, project: Path) -> None:
    line = next(line for line in commands(section(3)) if line.startswith("spawn "))
    _, option, settings = line.split()
    server = server_factory(settings, option, cwd=project, environment={"SPAWN_PORT": "0"})
    assert server.get("/admin/login/").status == 200
    assert server.get("/static/admin/css/base.css").status == 200
    assert "DEBUG is on" in server.stderr_text()


def test_ready_for_production(server_factory: ServerFactory, project: Path) -> None:
    assert write_files(section(4), project) == {"mysite/production.py", "spawning.toml"}
    printed = run(commands(section(4)), project)
    assert re.search(r"^threads +16 +spawning\.toml$", printed, re.MULTILINE)
    assert (project / "static" / "admin" / "css" / "base.css").exists()

    name, _, secret = (project / "secret.env").read_text().strip().partition("=")
    environment = {"SPAWN_PORT": "0", name: secret}
    server = server_factory("--config=spawning.toml", cwd=project, environment=environment)
    assert "2 processes x 16 threads" in server.stderr_text()
    assert len(server.stderr_text().splitlines()) == 3
    assert server.get("/admin/login/").status == 200
    assert server.get("/static/admin/css/base.css").status == 404
