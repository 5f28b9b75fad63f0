"""Takes the pictures of the status page in this directory: ``python docs/images/take.py`` from the root.

Needs the installed package, the tools of the tests, and Chromium. The server it starts has work to show:
requests of several lengths, some that fail, and a reload of code that cannot be imported.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
STATUS_PORT = 8081
CLIENTS = 14
SHOW_FOR_S = 45.0
PICTURES = [
    ("status-dark", 1400, 900, "dark"),
    ("status-light", 1400, 900, "light"),
    ("status-phone", 360, 780, "light"),
]
APP = """\
import random
import time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/reports"):
        time.sleep(random.uniform(1.5, 14))
    elif path.startswith("/search"):
        time.sleep(random.uniform(0.05, 0.9))
    else:
        time.sleep(random.uniform(0.001, 0.03))
    if path == "/cart" and random.random() < 0.02:
        raise RuntimeError("the warehouse does not answer")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"x" * random.randrange(500, 20000)]
"""
BROKEN = "from shop.pricing import discuont\n\n" + APP
PATHS = ["/", "/products/42", "/cart", "/static/site.css", "/search", "/missing"] * 3 + [
    "/reports/2026/november"
]


def browse(base: str, seed: int, done: threading.Event) -> None:
    """Ask for one page after the other."""
    index = seed
    while not done.is_set():
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(base + PATHS[index % len(PATHS)], timeout=30).read()
        index += 1


def take(directory: Path) -> None:
    """Serve, browse, and take every picture."""
    (directory / "shop").mkdir()
    (directory / "shop" / "__init__.py").write_text("")
    (directory / "shop" / "pricing.py").write_text("def discount(price):\n    return price * 0.9\n")
    code = directory / "shop" / "wsgi.py"
    code.write_text(APP)
    spawn = Path(sys.executable).with_name("spawn")
    options = ["-s4", "-t8", "-p8080", f"--status-port={STATUS_PORT}", "-l/dev/null", "shop.wsgi:app"]
    server = subprocess.Popen([spawn, *options], cwd=directory, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    while "ready" not in server.stderr.readline():
        pass
    threading.Thread(target=server.stderr.read, daemon=True).start()
    done = threading.Event()
    clients = [
        threading.Thread(target=browse, args=("http://127.0.0.1:8080", seed * 3, done))
        for seed in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    server.send_signal(signal.SIGHUP)
    time.sleep(3)
    code.write_text(BROKEN)
    server.send_signal(signal.SIGHUP)
    try:
        photograph()
    finally:
        done.set()
        server.terminate()
        server.wait()


def photograph() -> None:
    """Open all pages at once, so that each has seen the same minute."""
    chromium = shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        pages = []
        for name, width, height, scheme in PICTURES:
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme=scheme,  # type: ignore[arg-type]
            )
            page.goto(f"http://127.0.0.1:{STATUS_PORT}/status")
            pages.append((name, page))
        time.sleep(SHOW_FOR_S)
        for name, page in pages:
            page.bring_to_front()
            page.screenshot(path=HERE / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        take(Path(name))
