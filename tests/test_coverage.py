"""`--coverage`: which lines of the application have run, in all workers together."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from apps import covered
from conftest import ServerFactory
from server import TESTS, Server, run_to_end
from test_process_life import eventually, workers

EX_USAGE = 64
MODES = [["-t2"], ["-t0"], ["--green=gevent"]]
APP = "apps.covered:app"
NAME = "apps/covered.py"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with the application alone, so that a report has few files."""
    shutil.copytree(TESTS / "apps", tmp_path / "apps", ignore=lambda _, names: set(names) - {"covered.py"})
    (tmp_path / "apps" / "__init__.py").touch()
    return tmp_path


def line_of(function: Any) -> int:
    """The number of a function's only line."""
    return inspect.getsourcelines(function)[1] + 1


def measured(server: Server) -> dict[str, Any]:
    answer = server.get("/_coverage.json")
    assert (answer.status, answer.header("Content-Type")) == (200, "application/json"), answer.body
    files = json.loads(answer.body)["files"]
    assert isinstance(files, dict)
    return files


def directory_of(server: Server) -> Path:
    return Path(os.environ.get("TMPDIR") or "/tmp", f"spawning-{server.pid}")


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode[0])
def test_what_has_run_in_any_worker_is_in_the_report(
    server_factory: ServerFactory, site: Path, mode: list[str]
) -> None:
    server = server_factory(APP, "-s2", "--coverage", *mode, cwd=site)
    pids = set()
    assert eventually(lambda: len(pids.add(server.get("/").body) or pids) == 2)  # type: ignore[func-returns-value]
    file = measured(server)[NAME]
    assert line_of(covered.called) in file["missing_lines"]
    # By one worker, and told by whichever is asked.
    assert server.get("/called").body == b"called"
    for _ in range(4):
        file = measured(server)[NAME]
        assert line_of(covered.called) in file["executed_lines"]
        assert line_of(covered.never_called) in file["missing_lines"]
    server.stop()


def test_the_report_is_a_page_with_all_it_links_to(server_factory: ServerFactory, site: Path) -> None:
    server = server_factory(APP, "-s2", "-c", cwd=site)
    page = server.get("/_coverage")
    assert page.status == 200
    assert (page.header("Content-Type") or "").startswith("text/html")
    assert b"covered.py" in page.body
    assert b'<base href="/_coverage/">' in page.body
    linked = set(re.findall(r'(?:href|src)="([^"#:]+\.(?:css|js|html|png))"', page.body.decode()))
    assert len(linked) > 2
    for name in linked:
        answer = server.get(f"/_coverage/{name}")
        assert (answer.status, len(answer.body) > 0) == (200, True), name
    assert server.get("/_coverage/../data").status == 404
    assert server.get("/_coverage/no.such.html").status == 404
    assert server.request(b"POST /_coverage HTTP/1.0\r\nContent-Length: 0\r\n\r\n").status == 405


def test_only_the_applications_own_code_is_measured(server_factory: ServerFactory, site: Path) -> None:
    server = server_factory(APP, "-s1", "-c", cwd=site)
    assert set(measured(server)) == {NAME, "apps/__init__.py"}


def test_what_ran_before_a_reload_is_still_in_the_report(server_factory: ServerFactory, site: Path) -> None:
    server = server_factory(APP, "-s1", "-c", cwd=site)
    (first,) = workers(server, 1)
    server.get("/called")
    server.signal(signal.SIGHUP)
    server.wait_for_log("a new generation serves.*generation=2")
    assert eventually(lambda: first not in server.processes())
    assert line_of(covered.called) in measured(server)[NAME]["executed_lines"]


def test_the_data_is_private_and_gone_in_the_end(server_factory: ServerFactory, site: Path) -> None:
    server = server_factory(APP, "-s1", "-c", cwd=site)
    measured(server)
    directory = directory_of(server)
    assert directory.stat().st_mode & 0o777 == 0o700
    server.stop()
    assert not directory.exists()
    assert not list(site.glob(".coverage*"))


def test_without_the_option_the_paths_are_the_applications(server_factory: ServerFactory) -> None:
    server = server_factory("apps.hello:app", "-s1")
    assert server.get("/_coverage").body == server.get("/_coverage.json").body == b"Hello"
    assert not directory_of(server).exists()


def test_a_missing_library_is_named_before_anything_is_bound(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['coverage'] = None\n")
    ended = run_to_end("--coverage", "--port=0", APP, environment={"PYTHONPATH": str(tmp_path)})
    assert ended.returncode == EX_USAGE
    assert ended.stderr.splitlines() == [
        "spawn: --coverage: needs the Python library coverage, which is not installed",
        "hint: pip install Spawning[coverage]",
    ]
