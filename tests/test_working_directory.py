"""Where workers work: `--chdir`, releases behind symbolic links, and directories that are gone."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import TESTS, Server, run_to_end
from test_process_life import eventually

NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}
RELEASE = """
import os
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {os.getcwd()} %s".encode()]
"""


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    """A directory with two releases, and a link to the first."""
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "site_app.py").write_text(RELEASE % number)
    (tmp_path / "current").symlink_to("1")
    return tmp_path


def deploy(releases: Path, number: str) -> None:
    (releases / "next").symlink_to(number)
    (releases / "next").rename(releases / "current")


def visit(server: Server) -> tuple[int, str, str]:
    """Process id, working directory and release of the worker."""
    pid, directory, release = server.get("/").body.decode().split()
    return int(pid), directory, release


@pytest.mark.parametrize("way", ["chdir", "relative", "shell"])
def test_a_reload_follows_a_link_that_was_moved(
    server_factory: ServerFactory, releases: Path, way: str
) -> None:
    link = releases / "current"
    words = {"chdir": [f"--chdir={link}"], "relative": ["--chdir=current"]}.get(way, [])
    cwd = {"relative": releases, "shell": link}.get(way, Path("/"))
    variables = {**NO_BYTECODE, "PWD": str(cwd)}
    server = server_factory("site_app:app", "-s1", *words, cwd=cwd, environment=variables)
    assert visit(server)[1:] == (str(releases / "1"), "1")
    deploy(releases, "2")
    server.signal(signal.SIGHUP)
    server.wait_for_log("a new generation serves.*generation=2$")
    eventually(lambda: visit(server)[1:] == (str(releases / "2"), "2"))


def test_a_worker_is_replaced_by_one_of_its_own_release(
    server_factory: ServerFactory, releases: Path
) -> None:
    server = server_factory("site_app:app", "-s1", f"--chdir={releases}/current", environment=NO_BYTECODE)
    first, _, _ = visit(server)
    deploy(releases, "2")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: visit(server)[0] != first)
    assert visit(server)[2] == "1"


def test_a_release_that_was_removed_stops_no_replacement(
    server_factory: ServerFactory, releases: Path
) -> None:
    server = server_factory("site_app:app", "-s1", cwd=releases / "1", environment=NO_BYTECODE)
    first, _, _ = visit(server)
    shutil.rmtree(releases / "1")
    os.kill(first, signal.SIGKILL)
    server.wait_for_log(f"working directory does not exist.*{releases}/1")
    (releases / "2").rename(releases / "1")
    eventually(lambda: visit(server)[2] == "2")


def test_an_application_that_is_installed_needs_no_directory(
    server_factory: ServerFactory, releases: Path, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    variables = {**NO_BYTECODE, "PYTHONPATH": str(releases / "1")}
    server = server_factory("site_app:app", "-s1", f"--chdir={gone}", environment=variables)
    first, _, _ = visit(server)
    gone.rmdir()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: visit(server)[0] != first)
    assert visit(server)[1] == "/"


def test_a_server_that_replaces_itself_follows_the_link(
    server_factory: ServerFactory, releases: Path
) -> None:
    link = releases / "current"
    server = server_factory("site_app:app", "-s1", cwd=link, environment={**NO_BYTECODE, "PWD": str(link)})
    assert visit(server)[2] == "1"
    deploy(releases, "2")
    server.signal(signal.SIGUSR2)
    eventually(lambda: visit(server)[2] == "2")


def test_python_path_comes_before_the_working_directory_and_is_meant_in_it(
    server_factory: ServerFactory, releases: Path
) -> None:
    (releases / "library").mkdir()
    words = [f"--chdir={releases}", "--python-path=library", "--python-path", str(releases / "current")]
    variables = {**NO_BYTECODE, "PYTHONPATH": str(TESTS)}
    server = server_factory("apps.mounted:place", "-s1", *words, environment=variables)
    directory, *path, _ = server.get("/").body.decode().split("\n")
    assert directory == str(releases)
    assert path == [str(releases / "library"), str(releases / "1"), str(releases)]


def test_a_directory_that_is_not_there_is_refused() -> None:
    for option in ("--chdir", "--python-path"):
        ended = run_to_end(f"{option}=/nonexistent", "apps.mounted:app")
        assert ended.returncode == 64
        assert option in ended.stderr
        assert "/nonexistent" in ended.stderr


def test_a_module_that_is_missing_is_told_with_the_directory(tmp_path: Path) -> None:
    ended = run_to_end("--check", f"--chdir={tmp_path}", "missing_app:app")
    assert ended.returncode == 70
    assert f"working directory '{tmp_path}'" in ended.stderr
