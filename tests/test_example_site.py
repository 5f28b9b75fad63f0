"""The example site of docs/example, served by two processes of sixteen threads, as a person meets it.

Once through Chromium, and once more over plain sockets, where every byte of the exchange is ours.
"""

import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, expect, sync_playwright

from conftest import ServerFactory
from server import Response, Server

EXAMPLE = Path(__file__).parent.parent / "docs" / "example"
UPLOAD_BYTES = 20 * 1024 * 1024
#: Also for what Playwright expects of a page, for which it has 5 s of its own.
BROWSER_TIMEOUT_MS = 90_000
expect.set_options(timeout=BROWSER_TIMEOUT_MS)
# As root Chromium has no sandbox; the rest keeps it from talking to anybody but the site.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def site(server_factory: ServerFactory, tmp_path: Path) -> Server:
    """The example site with a database and a media directory of its own, and the demo user in it."""
    environment = {"MYSITE_DATA": str(tmp_path / "data")}
    for _ in range(2):  # The second time has nothing to do, and must not mind.
        subprocess.run(
            [sys.executable, "manage.py", "prepare", "--verbosity=0"],
            cwd=EXAMPLE,
            env={**os.environ, **environment},
            check=True,
        )
    return server_factory(
        "mysite.wsgi.application", "-s", "2", "-t", "16", cwd=EXAMPLE, environment=environment
    )


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    """A file of 20 MiB that no compression and no luck could shorten; the same in every run."""
    path = tmp_path / "noise.bin"
    path.write_bytes(random.Random(20).randbytes(UPLOAD_BYTES))
    return path


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page of a headless Chromium with a fresh profile."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing: `make test` installs it"
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=chromium,
            headless=True,
            args=CHROMIUM_ARGUMENTS,
            timeout=BROWSER_TIMEOUT_MS,
        )
        context.set_default_timeout(BROWSER_TIMEOUT_MS)
        yield context.pages[0]
        context.close()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_person_logs_in_adds_a_user_and_uploads_a_file(site: Server, page: Page, upload: Path) -> None:
    requested: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("requestfailed", lambda request: complaints.extend(failures_of(request)))
    page.on("response", lambda answer: complaints.append(answer.url) if answer.status >= 400 else None)
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)

    log_in(page, site)
    add_user(page, site)
    upload_file(page, site, upload)

    assert complaints == []
    assert [url for url in requested if not url.startswith((site.url, "data:"))] == []
    site.wait_for_log(r'"POST /admin/login/\S* HTTP/1\.1" 302 ')
    site.wait_for_log(r'"POST /admin/auth/user/add/ HTTP/1\.1" 302 ')
    site.wait_for_log(r'"POST /uploads/ HTTP/1\.1" 302 ')
    site.wait_for_log(r'"GET /static/admin/css/base\.css HTTP/1\.1" 200 ')
    site.stop()


def failures_of(request: Request) -> list[str]:
    """What a failed request says against the server.

    Leaving a page, Chromium drops the images it still loads, as net::ERR_ABORTED. So does a page of ours what
    it has waited for too long, on a machine that stands still. A server that resets, closes early or cuts a
    body short has other names: ERR_CONNECTION_RESET, ERR_EMPTY_RESPONSE, ERR_CONTENT_LENGTH_MISMATCH.
    """
    return [] if request.failure == "net::ERR_ABORTED" else [f"{request.url}: {request.failure}"]


def log_in(page: Page, site: Server) -> None:
    page.goto(f"{site.url}/admin/")
    page.get_by_label("Username").fill("demo")
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#user-tools")).to_contain_text("demo")
    # The style sheets came too: the admin's header has its colour.
    expect(page.locator("#header")).not_to_have_css("background-color", "rgba(0, 0, 0, 0)")


def add_user(page: Page, site: Server) -> None:
    page.goto(f"{site.url}/admin/auth/user/add/")
    page.locator("#id_username").fill("ada")
    page.locator("#id_password1").fill("correct horse battery")
    page.locator("#id_password2").fill("correct horse battery")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist .success")).to_contain_text("was added successfully")
    page.goto(f"{site.url}/admin/auth/user/")
    expect(page.locator("#result_list")).to_contain_text("ada")


def upload_file(page: Page, site: Server, path: Path) -> None:
    page.goto(f"{site.url}/uploads/")
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_role("button", name="Upload").click()
    row = page.locator("#uploads tr", has_text=path.name)
    expect(row.locator("td")).to_have_text([path.name, str(path.stat().st_size), sha256(path)])


class Visitor:
    """A browser's cookie jar and forms, over plain sockets, a connection for each request."""

    def __init__(self, site: Server) -> None:
        self._site = site
        self._cookies: dict[str, str] = {}

    def get(self, path: str) -> Response:
        return self._keep_cookies(self._site.get(path, self._cookie_header()))

    def post_form(self, path: str, fields: dict[str, str]) -> Response:
        body = urllib.parse.urlencode({"csrfmiddlewaretoken": self._token(path), **fields}).encode()
        return self.post(path, "application/x-www-form-urlencoded", body)

    def post_file(self, path: str, file: Path) -> Response:
        boundary = "a-boundary-that-noise-does-not-hold"
        head = (
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n{self._token(path)}\r\n'
            f"--{boundary}\r\n"
            f'Content-Disposition: form-data; name="file"; filename="{file.name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + file.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        return self.post(path, f"multipart/form-data; boundary={boundary}", body)

    def post(self, path: str, content_type: str, body: bytes) -> Response:
        host, port = self._site.address
        fields = {
            "Host": f"{host}:{port}",
            "Connection": "close",
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            **self._cookie_header(),
        }
        head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return self._keep_cookies(self._site.request(head.encode() + b"\r\n" + body))

    def _token(self, path: str) -> str:
        match = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(path).body.decode())
        assert match, f"no form on {path}"
        return match[1]

    def _cookie_header(self) -> dict[str, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        return {"Cookie": cookies} if cookies else {}

    def _keep_cookies(self, response: Response) -> Response:
        for cookie in response.header_all("Set-Cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        return response


@pytest.fixture
def visitor(site: Server) -> Visitor:
    return Visitor(site)


def test_the_same_over_plain_sockets(site: Server, visitor: Visitor, upload: Path) -> None:
    login = visitor.post_form("/admin/login/", {"username": "demo", "password": "demo", "next": "/admin/"})
    assert (login.status, login.header("Location")) == (302, "/admin/")
    user = {"username": "ada", "password1": "correct horse battery", "password2": "correct horse battery"}
    assert visitor.post_form("/admin/auth/user/add/", {**user, "usable_password": "true"}).status == 302
    assert b">ada</a>" in visitor.get("/admin/auth/user/").body

    sent = visitor.post_file("/uploads/", upload)
    assert (sent.status, sent.header("Location")) == (302, "/uploads/")
    listed = visitor.get("/uploads/").body.decode()
    assert f"<td>{UPLOAD_BYTES}</td>" in listed
    assert sha256(upload) in listed
    site.wait_for_log(r'"POST /uploads/ HTTP/1\.1" 302 ')


def test_what_was_uploaded_comes_back_byte_for_byte(visitor: Visitor, upload: Path) -> None:
    visitor.post_file("/uploads/", upload)
    link = re.search(r'href="(/uploads/\d+/)"', visitor.get("/uploads/").body.decode())
    assert link
    download = visitor.get(link[1])
    assert download.header("Content-Length") == str(UPLOAD_BYTES)
    assert download.header("Content-Disposition") == f'attachment; filename="{upload.name}"'
    assert hashlib.sha256(download.body).hexdigest() == sha256(upload)


def test_the_plain_page_needs_neither_session_nor_database(visitor: Visitor) -> None:
    hello = visitor.get("/")
    assert (hello.status, hello.body) == (200, b"Hello from Django.\n")
    assert hello.header_all("Set-Cookie") == []


def test_a_session_outlives_connections_threads_and_processes(visitor: Visitor) -> None:
    pages = [visitor.get("/about/").body.decode() for _ in range(10)]
    counts = [re.search(r"<th>Your visits</th><td>(\d+)</td>", page) for page in pages]
    assert [match and int(match[1]) for match in counts] == list(range(1, 11))


def test_the_guestbook_keeps_what_was_signed(visitor: Visitor) -> None:
    message = "Grüße aus Köln & <b>nah</b>"
    signed = visitor.post_form("/guestbook/sign/", {"author": "Zoë", "message": message})
    assert (signed.status, signed.header("Location")) == (302, "/guestbook/")
    shown = visitor.get("/guestbook/").body.decode()
    assert "<h2>Zoë</h2>" in shown
    assert "Grüße aus Köln &amp; &lt;b&gt;nah&lt;/b&gt;" in shown


def test_a_form_without_its_token_is_refused(visitor: Visitor) -> None:
    forged = visitor.post(
        "/guestbook/sign/", "application/x-www-form-urlencoded", b"author=Mallory&message=forged"
    )
    assert forged.status == 403
    assert b"Mallory" not in visitor.get("/guestbook/").body
