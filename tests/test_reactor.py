"""Without `io_uring`: containers forbid it, kernels lack it, and its rings count as locked memory."""

from __future__ import annotations

import hashlib
import signal
import sys
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import TESTS, Server, run_to_end
from test_process_life import workers
from wire import CLOSE, HOST, message

#: How container engines answer (Docker: EPERM; Podman: ENOSYS), and what many containers may lock in memory.
REFUSALS = {
    "EPERM": [sys.executable, str(TESTS / "seccomp.py"), "EPERM"],
    "ENOSYS": [sys.executable, str(TESTS / "seccomp.py"), "ENOSYS"],
    "EINVAL": [sys.executable, str(TESTS / "seccomp.py"), "EINVAL"],
    "memlock": ["prlimit", "--memlock=65536:65536"],
}
#: More than is kept in memory.
BODY = bytes(range(256)) * 4096 * 3


@pytest.fixture(params=REFUSALS)
def wrapper(request: pytest.FixtureRequest) -> list[str]:
    return REFUSALS[request.param]


def digest_of_upload(server: Server) -> bytes:
    length = f"Content-Length: {len(BODY)}"
    return server.request(message("POST /digest HTTP/1.1", HOST, CLOSE, length, body=BODY)).body


def test_the_server_runs_without_io_uring_and_says_why(
    server_factory: ServerFactory, wrapper: list[str], tmp_path: Path
) -> None:
    unix = tmp_path / "socket"
    arguments = ["-s2", "-t2", "-p0", f"-bunix:{unix}", "--status-port=0"]
    server = server_factory("apps.bulk:app", *arguments, wrapper=wrapper)
    assert "using epoll instead" in server.stderr_text()
    expected = f"{len(BODY)} {hashlib.sha256(BODY).hexdigest()}".encode()
    for _ in range(2):
        assert digest_of_upload(server) == expected
        server.signal(signal.SIGHUP)
        server.wait_for_log("a new generation serves")
    workers(server, 2)
    assert server.get("/hello").body == b"hello"
    server.stop()


def test_what_is_asked_for_and_cannot_be_had_is_told_with_its_remedy(wrapper: list[str]) -> None:
    ended = run_to_end("--reactor=io-uring", "--port=0", "apps.hello:app", wrapper=wrapper)
    assert ended.returncode == 71
    assert "io_uring" in ended.stderr
    assert "hint: " in ended.stderr


def test_epoll_can_be_chosen_and_needs_no_excuse(server_factory: ServerFactory) -> None:
    server = server_factory("apps.bulk:app", "-s1", "--reactor=epoll")
    assert digest_of_upload(server).startswith(str(len(BODY)).encode())
    assert "io_uring" not in server.stderr_text()
    server.stop()
