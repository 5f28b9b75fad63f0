"""From the command line to the first request: what is accepted, what is said, and what is refused how."""

from __future__ import annotations

import platform
import re
import socket

import pytest

from conftest import ServerFactory
from server import run_to_end

EX_USAGE = 64
EX_SOFTWARE = 70


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    return int(port)


def test_the_start_is_told_in_at_most_three_lines(server_factory: ServerFactory) -> None:
    """Version, Python, address, processes and threads, cores, process id: what a bug report needs."""
    server = server_factory("apps.hello:app", "-s2", "-t3")
    said = server.stderr_text()
    assert len(said.splitlines()) <= 3
    assert re.search(r"(?i)spawning\D{0,9}\d+\.\d+", said)
    assert platform.python_version() in said
    assert server.url in said
    assert re.search(r"\b2\b.{0,20}process.*\b3\b.{0,20}thread", said)
    assert re.search(r"(?i)\bcores?\b", said)
    assert re.search(rf"\b{server.pid}\b", said)
    assert server.stdout_text() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["-s8"],
        ["-s", "8"],
        ["--processes=8"],
        ["--processes", "8"],
        ["-s8", "-t4"],
        ["-s", "8", "--threads=4"],
    ],
    ids=" ".join,
)
def test_every_spelling_of_a_short_and_a_long_option_is_accepted(
    server_factory: ServerFactory, arguments: list[str]
) -> None:
    server = server_factory("apps.hello:app", *arguments)
    assert re.search(r"\b8\b.{0,20}process", server.stderr_text())
    assert server.get("/").body == b"Hello"


@pytest.mark.parametrize(
    "arguments",
    [
        *[["--deadman", "5"], ["--deadman=5"]],
        *[["--deadman_timeout", "5"], ["--deadman_timeout=5"]],
        *[["--deadman-timeout", "5"], ["--deadman-timeout=5"]],
        *[["-i", "127.0.0.1"], ["-i127.0.0.1"], ["--host=127.0.0.1"]],
        *[["-f", "spawning.wsgi_factory.config_factory"], ["--factory=spawning.wsgi_factory.config_factory"]],
    ],
    ids=" ".join,
)
def test_every_spelling_of_earlier_releases_is_accepted(
    server_factory: ServerFactory, arguments: list[str]
) -> None:
    assert server_factory("apps.hello:app", "-s1", *arguments).get("/").body == b"Hello"


@pytest.mark.parametrize("app", ["apps.hello:app", "apps.hello.app"])
def test_an_application_is_named_with_a_colon_or_a_dot(server_factory: ServerFactory, app: str) -> None:
    assert server_factory(app, "-s1").get("/").body == b"Hello"


def test_middleware_is_applied_in_the_order_of_its_names(server_factory: ServerFactory) -> None:
    """`app = first(app)`, then `app = second(app)`: the last named is called first."""
    server = server_factory("apps.middleware.second", "-s1", "apps.middleware:app", "apps.middleware.first")
    assert server.get("/").body == b"second first "


@pytest.mark.parametrize(
    ("arguments", "flag", "fault"),
    [
        (["--port=70000"], "--port", "65535"),
        (["--port", "70000"], "--port", "65535"),
        (["-p70000"], "--port", "65535"),
        (["--port=-1"], "--port", "-1"),
        (["--port=http"], "--port", "http"),
        (["--threads=abc"], "--threads", "abc"),
        (["-t", "abc"], "--threads", "abc"),
        (["--threads="], "--threads", ""),
        (["--threads=4.5"], "--threads", "4.5"),
        (["--threads=100000000"], "--threads", "100000000"),
        (["-s0"], "--processes", "0"),
        (["--processes=99999999999999999999"], "--processes", "99999999999999999999"),
        (["--deadman=-5"], "--deadman", "-5"),
        (["--host=not an address"], "--host", "not an address"),
        (["--header-timeout=-1"], "--header-timeout", "-1"),
        (["--keepalive-timeout=x"], "--keepalive-timeout", "x"),
        (["--body-timeout=0x1"], "--body-timeout", "0x1"),
        (["--body-bytes-max=-1"], "--body-bytes-max", "-1"),
        (["--request-line-bytes-max=-1"], "--request-line-bytes-max", "-1"),
        (["--header-bytes-max=x"], "--header-bytes-max", "x"),
        (["--header-count-max=1.5"], "--header-count-max", "1.5"),
        (["--no-such-option"], "--no-such-option", ""),
        (["--no-such-option=5"], "--no-such-option", ""),
        (["-y"], "-y", ""),
        (["--port"], "--port", ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_option_is_named_with_its_fault(arguments: list[str], flag: str, fault: str) -> None:
    """One line with flag, fault and bound, a `hint:` line, and exit code 64 (EX_USAGE of sysexits.h)."""
    # Port 0, lest an option that is taken for right be found out by a port that is in use.
    port = [] if flag == "--port" else ["--port=0"]
    # An option without its value would take the application for it.
    app = [] if arguments == ["--port"] else ["apps.hello:app"]
    ended = run_to_end(*port, *arguments, *app)
    assert ended.returncode == EX_USAGE, ended
    assert ended.stdout == ""
    message, *hints = ended.stderr.strip().splitlines()
    assert flag in message
    assert fault in message
    assert [hint for hint in hints if hint.startswith("hint:")]
    assert "Traceback" not in ended.stderr


def test_a_missing_application_is_a_usage_error() -> None:
    ended = run_to_end("-s1")
    assert ended.returncode == EX_USAGE, ended
    assert "app" in ended.stderr
    assert re.search("^hint:", ended.stderr, re.MULTILINE)


def test_a_wrong_option_is_refused_before_anything_is_bound(free_port: int) -> None:
    """Were the address bound first, a second mistake would be reported instead of the first."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        ended = run_to_end(f"--port={free_port}", "--threads=abc", "apps.hello:app")
    assert ended.returncode == EX_USAGE
    assert "--threads" in ended.stderr


@pytest.mark.parametrize(
    ("app", "messages"),
    [
        ("apps.broken.raises:app", ["RuntimeError: raised at import", "Traceback", "raises.py"]),
        ("apps.broken.exits:app", ["SystemExit", "exits"]),
        ("apps.broken.imports_missing:app", ["no_such_dependency", "Traceback", "imports_missing.py"]),
        ("apps.no_such_module:app", ["no_such_module"]),
        ("no_such_package.module:app", ["no_such_package"]),
        ("apps.hello:no_such_attribute", ["no_such_attribute", "apps.hello"]),
        ("apps.hello.no_such_attribute", ["no_such_attribute", "apps.hello"]),
        ("apps.broken:not_callable", ["not_callable", "callable"]),
    ],
)
def test_an_application_that_cannot_be_loaded_ends_the_first_start(
    free_port: int, app: str, messages: list[str]
) -> None:
    """The fault is shown once, not once for each process; exit code 70 (EX_SOFTWARE), and nobody listens."""
    ended = run_to_end(f"--port={free_port}", "-s2", app)
    assert ended.returncode == EX_SOFTWARE, ended
    for message in messages:
        assert message in ended.stderr
    assert ended.stderr.count("Traceback (most recent call last)") <= 1
    assert "ready" not in ended.stderr
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_port), timeout=60)


def test_a_module_that_is_missing_is_told_from_one_that_imports_a_missing_one() -> None:
    """The first is a typing error on the command line and needs no traceback; the second is the
    application's."""
    assert "Traceback" not in run_to_end("--port=0", "-s1", "apps.no_such_module:app").stderr
    assert "Traceback" in run_to_end("--port=0", "-s1", "apps.broken.imports_missing:app").stderr
