"""The Dockerfile and compose.yaml with the real engine: what the pages say, then load, reloads and a stop.

`make test-containers` runs this, with images of Debian trees in place of those of a registry: BUILD and BASE
for the Dockerfile, SERVICES with nginx and PostgreSQL.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from containers import docker, free_port, skip_without_engine
from load import Connection, Load
from server import TESTS
from service import eventually
from wire import CLOSE, HOST, message

CLONE = TESTS.parent
UPLOAD_BYTES = 20 << 20
RELOADS = 20
BOUNDARY = "a-boundary-of-the-test"
COMMANDS = re.compile(r"^```sh\n(docker build.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    skip_without_engine()
    if "BASE" not in os.environ:
        pytest.skip("no image to build from: make test-containers")


def commands() -> list[str]:
    """The commands of the page, told which images this machine has."""
    (block,) = COMMANDS.findall((CLONE / "docs" / "deployment.md").read_text())
    build, run, ask = block.splitlines()
    arguments = " ".join(f"--build-arg {name}={os.environ[name]}" for name in ("BUILD", "BASE"))
    build = build.replace("docker build", f"docker build --quiet {arguments}")
    return [build, run, ask]


def shell(command: str) -> str:
    """What a command prints."""
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(
        ["bash", "-euc", command], cwd=CLONE, env=environment, capture_output=True, timeout=1800, check=False
    )
    assert done.returncode == 0, (command, done.stdout.decode()[-2000:], done.stderr.decode()[-4000:])
    return done.stdout.decode()


def upload(address: tuple[str, int]) -> str:
    """Send a file through the form of the site as a browser does, and return its SHA-256."""
    content = os.urandom(UPLOAD_BYTES)
    with Connection(address) as connection:
        form = connection.ask(message("GET /uploads/ HTTP/1.1", HOST))
        token = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', form.body)
        cookie = form.header("Set-Cookie")
        assert token
        assert cookie
        head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
        body = (
            f'{head}"csrfmiddlewaretoken"\r\n\r\n{token[1].decode()}\r\n'
            f'{head}"file"; filename="bytes"\r\nContent-Type: application/octet-stream\r\n\r\n'.encode()
            + content
            + f"\r\n--{BOUNDARY}--\r\n".encode()
        )
    request = message(
        "POST /uploads/ HTTP/1.1",
        HOST,
        CLOSE,
        f"Cookie: {cookie.split(';')[0]}",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {len(body)}",
    )
    with Connection(address) as connection:
        assert connection.ask(request + body).status == 302
    return hashlib.sha256(content).hexdigest()


def assert_uploads(address: tuple[str, int]) -> None:
    """Upload a file, and find its digest on the page that lists the files."""
    digest = upload(address)
    with Connection(address) as connection:
        assert digest[:12] in connection.ask(message("GET /uploads/ HTTP/1.1", HOST, CLOSE)).body.decode()


def reload(container: str, load: Load) -> None:
    """Reload many times under load, each when the one before has served."""
    for _ in range(RELOADS):
        # The log of all requests so far would take seconds to read.
        since = f"--since={time.time():.3f}"
        docker("kill", "--signal=HUP", container)
        assert eventually(lambda since=since: "a new generation serves" in docker("logs", since, container))  # type: ignore[misc]
        load.wait_for_more(20)


@contextlib.contextmanager
def page_container() -> Iterator[str]:
    """The container that the commands of the page make."""
    build, run, ask = commands()
    began = time.monotonic()
    shell(build)
    container = shell(run).strip()
    try:
        assert "Hello" in shell(ask)
        print(f"from nothing to the first response: {time.monotonic() - began:.0f} s")
        yield container
    finally:
        print(docker("logs", "--tail=50", container))
        docker("rm", "--force", "--volumes", container)


def test_three_commands_lead_to_a_site_that_reloads_and_stops_without_a_lost_request() -> None:
    with page_container() as container:
        address = ("127.0.0.1", 8080)
        assert_uploads(address)
        began = time.monotonic()
        with Load(address) as load:
            reload(container, load)
            rate = load.answered / (time.monotonic() - began)
            assert load.failures == []
            stopped_at = time.monotonic()
            docker("stop", "--time=60", container)
        print(f"{load.answered} requests, {rate:.0f} a second")
        # The engine's proxy accepts connections for a container that has stopped, and closes them.
        assert [opened_at for opened_at in load.failed_from if opened_at < stopped_at] == [], load.failures
        assert docker("inspect", "--format={{.State.ExitCode}}", container) == "0"


@pytest.fixture
def composed() -> Iterator[tuple[str, int]]:
    """The address of nginx in front of the site in front of PostgreSQL."""
    if "SERVICES" not in os.environ:
        pytest.skip("no image of nginx and PostgreSQL: make test-containers")
    port = free_port()
    files = "-f compose.yaml -f tests/systems/compose.yaml"
    compose = f"PORT={port} docker-compose --project-name spawning-test --project-directory . {files}"
    try:
        shell(f"{compose} build && {compose} up --detach")
        yield ("127.0.0.1", port)
    finally:
        print(shell(f"{compose} logs --no-color --tail=50"))
        shell(f"{compose} down --volumes --timeout 5")


def test_compose_serves_through_nginx_and_reloads_without_a_lost_request(composed: tuple[str, int]) -> None:
    def answers() -> bool:
        with contextlib.suppress(OSError, AssertionError), Connection(composed) as connection:
            return connection.ask(message("GET /guestbook/ HTTP/1.1", HOST, CLOSE)).status == 200
        return False

    assert eventually(answers)
    assert_uploads(composed)
    site = docker("ps", "--quiet", "--filter=label=com.docker.compose.service=site").split()[0]
    began = time.monotonic()
    with Load(composed) as load:
        reload(site, load)
        assert load.failures == []
        print(f"{load.answered} requests, {load.answered / (time.monotonic() - began):.0f} a second")
        docker("stop", "--time=60", site)
    # nginx says so when the site is gone; what the site had begun is complete.
    assert [text for text in load.failures if not re.match(r"50[24] ", text)] == []
    assert docker("inspect", "--format={{.State.ExitCode}}", site) == "0"
