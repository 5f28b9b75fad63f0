"""Real applications, used as their users do, reloaded and replaced while they are used: `make real`."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import applications
import pytest
from applications import PASSWORD, USER, Site, Tell, ready
from playwright.sync_api import Page, expect
from uses import USES

from conftest import ServerFactory
from load import Load
from server import Server
from test_example_site import page
from test_process_life import eventually, workers
from test_wrappers import WRAPPERS, adopting, exit_status

__all__ = ["page"]

pytest_plugins = ["telling"]
pytestmark = pytest.mark.timeout(3600)
#: A line of the log that somebody would have to look into.
ALARMING = re.compile(r"level=(ERROR|WARN)|^Traceback|panicked")
RESPONSES_BETWEEN = 10
PAUSE_S = 0.02
#: A large application takes a second of the processor to end, and the machine may be slow.
DEADMAN_S = 120


def start(server_factory: ServerFactory, site: Site, *wrapper: str, **environment: str) -> Server:
    """Serve a site with the `spawn` of its own virtualenv."""
    return server_factory(
        site.words[-1],
        *("--port=0", "-s2", "-t4", f"--deadman-timeout={DEADMAN_S}", *site.words[:-1]),
        program=[str(site.venv / "bin" / "spawn")],
        wrapper=[str(site.venv / "bin" / word) if not index else word for index, word in enumerate(wrapper)],
        cwd=site.cwd,
        environment={**site.environment, **environment},
    )


def put_through_it(server: Server, path: str, check: Callable[[], None]) -> str:
    """HUP, USR1, USR2 and TERM, under a trickle of requests; return what there is to tell."""
    began, answered = time.monotonic(), 0
    check()
    with adopting():
        with Load(server.address, path, clients=2, pause_s=PAUSE_S) as load:
            load.wait_for_more(RESPONSES_BETWEEN)
            server.signal(signal.SIGHUP)
            server.wait_for_log("a new generation serves.*generation=2", applications.PREPARE_TIMEOUT_S)
            check()
            server.signal(signal.SIGUSR1)
            server.wait_for_log("log files reopened")
            load.wait_for_more(RESPONSES_BETWEEN)
            server.signal(signal.SIGUSR2)
            told = server.wait_for_log(
                r"this one drains its workers and exits.*successor_pid=(\d+)", applications.PREPARE_TIMEOUT_S
            )
            assert server.wait() == 0
            check()
            load.wait_for_more(RESPONSES_BETWEEN)
        answered = load.answered
        assert load.failures == []
        os.kill(int(told[1]), signal.SIGTERM)
        assert exit_status(int(told[1])) == 0
    assert eventually(lambda: not server.processes())
    took_s = time.monotonic() - began
    return f"HUP, USR1, USR2, TERM in {took_s:.0f} s: {answered} requests beside, none failed"


def alarms(server: Server) -> list[str]:
    return [line for line in server.stderr_text().splitlines() if ALARMING.search(line)]


@pytest.mark.parametrize("name", applications.APPLICATIONS)
def test_an_application_is_used_reloaded_and_stopped(
    server_factory: ServerFactory, tmp_path: Path, tell: Tell, name: str
) -> None:
    site = ready(name, tmp_path, tell)
    server = start(server_factory, site)
    check = USES[name](server)
    told = put_through_it(server, applications.APPLICATIONS[name].page, check)
    assert alarms(server) == []
    tell(f"{name}: {' '.join(['spawn', *site.words])}: {told}")


def test_wagtail_is_used_by_a_browser(
    server_factory: ServerFactory, tmp_path: Path, tell: Tell, page: Page
) -> None:
    site = ready("wagtail", tmp_path, tell)
    server = start(server_factory, site)
    complaints: list[str] = []
    page.on("response", lambda answer: complaints.append(answer.url) if answer.status >= 500 else None)
    page.goto(f"{server.url}/admin/")
    page.get_by_label("Username").fill(USER)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("body")).to_contain_text("Site summary")
    before = workers(server, 2)
    server.signal(signal.SIGHUP)
    server.wait_for_log("a new generation serves")

    page.goto(f"{server.url}/admin/pages/add/home/homepage/3/")
    page.locator("#id_title").fill("Written in a browser")
    page.get_by_role("button", name="More actions").click()
    page.get_by_role("button", name="Publish").click()
    expect(page.locator(".messages")).to_contain_text("Written in a browser")
    page.goto(f"{server.url}/written-in-a-browser/")
    expect(page).to_have_title(re.compile("Written in a browser"))
    assert set(workers(server, 2)).isdisjoint(before)
    server.stop()
    assert complaints == []
    assert alarms(server) == []
    tell("wagtail: logged in, reloaded, wrote and read a page by Chromium")


@pytest.mark.parametrize("name", WRAPPERS)
def test_an_application_behind_an_agent(
    server_factory: ServerFactory, tmp_path: Path, tell: Tell, name: str
) -> None:
    """Without its collector, which an agent waits for at the end of a process, until the deadman comes."""
    wrapper = WRAPPERS[name]
    packages = {
        "opentelemetry": (
            "opentelemetry-distro",
            "opentelemetry-exporter-otlp-proto-http",
            "opentelemetry-instrumentation-django",
        )
    }
    site = ready("rest-framework", tmp_path, tell, *packages.get(name, (name,)))
    server = start(server_factory, site, *wrapper.command, **wrapper.environment)
    check = USES["rest-framework"](server)
    (killed, _) = workers(server, 2)
    os.kill(killed, signal.SIGKILL)
    server.wait_for_log(f"a worker died.*worker_pid={killed}")
    assert killed not in workers(server, 2)
    told = put_through_it(server, applications.APPLICATIONS["rest-framework"].page, check)
    assert len([line for line in alarms(server) if "level=ERROR" in line]) == 1, "that a worker died"
    tell(f"{' '.join([*wrapper.command, 'spawn', *site.words])}: CHLD, {told}")
