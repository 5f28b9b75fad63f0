"""The frameworks people use, each with the same small site, under several processes of several threads."""

from __future__ import annotations

import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import ServerFactory
from server import Server

THREADS = 8
FRAMEWORKS = ["flask", "bottle", "falcon", "django", "pyramid"]
NAME = "Zoë & Łukasz"


@pytest.fixture(params=FRAMEWORKS)
def site(request: pytest.FixtureRequest, server_factory: ServerFactory) -> Server:
    """The site of one framework, named by its module alone: one process, so that its threads must meet."""
    return server_factory(f"apps.frameworks.{request.param}_site", "-s1", f"-t{THREADS}")


def test_a_name_in_the_path_arrives_as_utf_8(site: Server) -> None:
    answer = site.get("/hello/" + urllib.parse.quote(NAME))
    assert (answer.status, answer.body.decode()) == (200, f"Hello {NAME}")


def test_a_posted_form_arrives(site: Server) -> None:
    # More than what is kept in memory, so that it comes from a file; less than what Bottle takes of a form.
    text = NAME * 3_000
    body = urllib.parse.urlencode({"text": text}).encode()
    host, port = site.address
    head = (
        f"POST /echo HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = site.request(head.encode() + body)
    assert (answer.status, answer.body.decode() == text) == (200, True)


def test_threads_serve_side_by_side(site: Server) -> None:
    """None answers before as many requests as there are threads are in the application at once."""
    with ThreadPoolExecutor(THREADS) as clients:
        answers = list(clients.map(lambda _: site.get(f"/together?{THREADS}"), range(THREADS)))
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"together")] * THREADS


def test_a_view_that_fails_is_a_500_and_the_next_request_is_served(site: Server) -> None:
    assert site.get("/fail").status == 500
    assert site.get("/hello/again").body == b"Hello again"


def test_a_missing_page_is_the_frameworks_404(site: Server) -> None:
    assert site.get("/no/such/page").status == 404
