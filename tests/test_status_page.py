"""The status page in a real browser, as wide as a desk and as narrow as a telephone."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

import versions
from conftest import ServerFactory
from server import Server
from test_example_site import BROWSER_TIMEOUT_MS, CHROMIUM_ARGUMENTS, failures_of
from test_status import Status, started

WIDTHS: list[tuple[int, Literal["light", "dark"]]] = [(360, "light"), (1400, "dark")]
HOSTILE = "<img src=x onerror=alert(1)>" + "very-long-" * 30
#: What the page must never do: be wider than its window.
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing: `make test` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=CHROMIUM_ARGUMENTS, timeout=BROWSER_TIMEOUT_MS
        )
        yield browser
        browser.close()


def opened(
    browser: Browser, found: Status, width: int, scheme: Literal["light", "dark"]
) -> tuple[Page, list[str]]:
    """The status page in a window of that width, and what it complains of from then on."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(BROWSER_TIMEOUT_MS)
    host, port = found.address
    complaints: list[str] = []
    page.on(
        "console", lambda entry: complaints.append(entry.text) if entry.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.extend(failures_of(request)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((f"http://{host}:{port}/", "data:"))
            else complaints.append(request.url)
        ),
    )
    page.goto(f"http://{host}:{port}/status")
    return page, complaints


def test_the_page_stays_up_to_date_by_itself_and_fits_every_window(
    server_factory: ServerFactory, browser: Browser, tmp_path: Path
) -> None:
    server = server_factory("apps.calls:app", "-s2", "-t3", "--status-port=0")
    found, gate = started(server), tmp_path / "gate"
    pages = [opened(browser, found, width, scheme) for width, scheme in WIDTHS]
    with ThreadPoolExecutor(1) as client:
        for index in range(5):
            server.get(f"/sized?{index}")
        held = client.submit(server.get, f"/held?{gate}")
        server.wait_for_log("held ")
        for page, complaints in pages:
            expect(page.locator("#state")).to_have_text("serving", timeout=BROWSER_TIMEOUT_MS)
            requests = page.locator(".figure", has_text="Requests a second").locator("small")
            expect(requests).to_have_text("6 in all", timeout=BROWSER_TIMEOUT_MS)
            expect(page.locator("#doing code")).to_have_text("GET /held", timeout=BROWSER_TIMEOUT_MS)
            expect(page.locator(".worker")).to_have_count(2)
            expect(page.locator(".worker").first.locator(".threads i")).to_have_count(3)
            assert page.evaluate(OVERFLOW) == 0
            assert complaints == []
        gate.touch()
        assert held.result().status == 200
    for page, complaints in pages:
        expect(page.locator("#doing")).to_have_text(
            "Every thread waits for a request.", timeout=BROWSER_TIMEOUT_MS
        )
        assert complaints == []
    dark, light = (page.evaluate("getComputedStyle(document.body).backgroundColor") for page, _ in pages)
    assert dark != light


def test_a_failed_reload_is_shown_once_with_its_traceback_and_as_text(
    server_factory: ServerFactory, browser: Browser, tmp_path: Path
) -> None:
    server = reloading(server_factory, tmp_path)
    page, complaints = opened(browser, started(server), 360, "dark")
    versions.write(tmp_path, "v2", before=f"raise RuntimeError({HOSTILE!r})")
    server.signal(signal.SIGHUP)
    box = page.locator("#reload")
    expect(box).to_contain_text("reload failed", timeout=BROWSER_TIMEOUT_MS)
    expect(box).to_contain_text("generation 1 keeps serving")
    expect(page.locator("#reload p", has_text="RuntimeError")).to_have_count(1)
    page.locator("#reload summary").click()
    expect(page.locator("#reload pre")).to_contain_text("site_code.py")
    assert page.locator("img").count() == 0
    assert page.evaluate(OVERFLOW) == 0
    versions.write(tmp_path, "v3")
    server.signal(signal.SIGHUP)
    expect(box).to_contain_text("reloaded", timeout=BROWSER_TIMEOUT_MS)
    expect(box).not_to_contain_text("RuntimeError")
    assert complaints == []


def reloading(server_factory: ServerFactory, site: Path) -> Server:
    versions.write(site, "v1")
    return server_factory(versions.APP, "-s1", "--status-port=0", cwd=site, environment=versions.ENVIRONMENT)
