"""Real proxies in front, and what they tell: PROXY protocol, health checks, the examples of docs/deploy."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from differential import proxies
from differential.proxies import Kind, Proxy
from http_client import read_response
from server import Server
from wire import CLOSE, message, read_to_end, serving

DEPLOY = Path(__file__).parent.parent / "docs" / "deploy"
#: Another address of the loopback interface than the proxies have.
CLIENT = "127.0.0.2"
#: From where they connect, if they can be told: the test itself must not be taken for one.
PROXY = "127.0.0.5"
#: How long a proxy may take to send a health check, and to find that it went well.
CHECK_TIMEOUT_S = 60.0

#: What a client may say of itself that only a proxy may.
CLAIMS = (
    "X-Forwarded-For: 203.0.113.9",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Port: 1",
    "Forwarded: for=203.0.113.9;proto=https;host=evil.example",
    "X-Real-IP: 203.0.113.9",
)


def running(configure: Callable[[Path, int, str], list[str]], program: str) -> Kind:
    kind = Kind(program, program, configure)
    if not kind.is_installed:
        pytest.skip(f"{program} is not installed")
    return kind


def ask(proxy: Proxy, *fields: str, host: str = "mysite.example") -> tuple[dict[str, str], int]:
    """What the application saw of a request of CLIENT, and that client's port."""
    with proxy.connect(CLIENT) as connection:
        port: int = connection.getsockname()[1]
        connection.sendall(message("GET / HTTP/1.1", f"Host: {host}", *fields, CLOSE))
        response = read_response(io.BytesIO(read_to_end(connection)))
    assert response.status == 200, response
    seen: dict[str, str] = json.loads(response.body)
    return seen, port


def seen_by(server: Server) -> list[dict[str, str]]:
    seen: list[dict[str, str]] = json.loads(server.get("/seen").body)
    return seen


def wait_for_checks(server: Server, method: str, target: str) -> list[dict[str, str]]:
    """The health checks so far, once there are some: requests with this request line."""
    deadline = time.monotonic() + CHECK_TIMEOUT_S
    while True:
        checks = [seen for seen in seen_by(server) if (seen["method"], seen["target"]) == (method, target)]
        if checks:
            return checks
        assert time.monotonic() < deadline, "no health checks"
        time.sleep(0.05)


def started(server: Server, kind: Kind) -> contextlib.AbstractContextManager[Proxy]:
    host, port = server.address
    return kind.running(f"{host}:{port}")


# === The PROXY protocol ===


def by_proxy_protocol(version: str) -> contextlib.AbstractContextManager[Server]:
    trusted = f"--trusted-proxies={PROXY}"
    return serving("apps.numbered:app", "-s1", trusted, f"--proxy-protocol={version}", "-l/dev/null")


def assert_named_by_proxy_protocol(proxy: Proxy) -> None:
    for _ in range(2):
        seen, port = ask(proxy, *CLAIMS)
        assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"]) == (CLIENT, str(port))
        assert (seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("127.0.0.1", str(proxy.port))
        assert (seen["wsgi.url_scheme"], seen["HTTP_HOST"]) == ("http", "mysite.example")


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("v1", "send-proxy"),
        ("v2", "send-proxy-v2"),
        ("on", "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
    ],
    ids=["version 1", "version 2", "version 2 with a checksum"],
)
def test_haproxy_speaks_the_proxy_protocol_and_so_do_its_health_checks(version: str, options: str) -> None:
    """A check is LOCAL in version 2, and in version 1 the connection of HAProxy itself."""
    options = f"source {PROXY} check inter 100ms check-send-proxy {options}"
    haproxy = running(proxies.haproxy_with(back="option httpchk GET /health", server=options), "haproxy")
    with by_proxy_protocol(version) as behind, started(behind, haproxy) as proxy:
        checks = wait_for_checks(behind, "GET", "/health")
        assert {seen["REMOTE_ADDR"] for seen in checks} == {PROXY}
        assert_named_by_proxy_protocol(proxy)


@pytest.mark.skipif(not proxies.NGINX_STREAM.exists(), reason="the stream module of nginx is not installed")
def test_nginx_speaks_the_proxy_protocol() -> None:
    nginx = running(proxies.nginx_stream_from(PROXY), "nginx")
    with by_proxy_protocol("v1") as behind, started(behind, nginx) as proxy:
        assert_named_by_proxy_protocol(proxy)


# === Health checks ===


@pytest.mark.parametrize(
    ("check", "method", "target"),
    [
        ("option httpchk", "OPTIONS", "/"),
        ("option httpchk HEAD /health", "HEAD", "/health"),
        (
            "option httpchk\n    http-check send meth GET uri /health ver HTTP/1.1 hdr Host mysite.example",
            *("GET", "/health"),
        ),
    ],
)
def test_health_checks_of_haproxy_are_answered(check: str, method: str, target: str) -> None:
    haproxy = running(proxies.haproxy_with(back=check, server="check inter 100ms fall 1"), "haproxy")
    with serving("apps.numbered:app", "-s1", "-l/dev/null") as behind, started(behind, haproxy) as proxy:
        wait_for_checks(behind, method, target)
        assert ask(proxy)[0]["target"] == "/"


def test_a_health_check_may_connect_and_leave() -> None:
    """Without `option httpchk` HAProxy only connects: nothing is logged of that."""
    haproxy = running(proxies.haproxy_with(server="check inter 50ms fall 1"), "haproxy")
    with serving("apps.numbered:app", "-s1") as behind, started(behind, haproxy) as proxy:
        for _ in range(5):
            assert ask(proxy)[0]["target"] == "/"
    assert len(behind.stdout_text().splitlines()) == 5
    assert not re.search("level=(ERROR|WARN)", behind.stderr_text())


@pytest.mark.parametrize(("method", "target"), [("GET", "/health"), ("HEAD", "/health"), ("OPTIONS", "*")])
def test_health_checks_of_apache_are_answered(method: str, target: str) -> None:
    site = f"""
        ProxyHCExpr fine {{%{{REQUEST_STATUS}} =~ /^[23]/}}
        <Proxy "balancer://behind">
            BalancerMember "http://{{behind}}" hcmethod={method} hcuri=/health hcinterval=1 hcexpr=fine
        </Proxy>
        ProxyPass "/" "balancer://behind/"
    """
    apache = running(
        lambda directory, port, behind: proxies.apache(directory, port, site.replace("{behind}", behind)),
        "apache2",
    )
    with serving("apps.numbered:app", "-s1", "-l/dev/null") as behind, started(behind, apache) as proxy:
        wait_for_checks(behind, method, target)
        assert ask(proxy)[0]["target"] == "/"


# === The examples of docs/deploy ===


def example(name: str, port: int, behind: str) -> str:
    """An example, with addresses that a test may use."""
    text = (DEPLOY / name).read_text()
    path = behind.removeprefix("unix:")
    changed = re.sub(r"\*?:80\b|(?<=listen )80\b", f"127.0.0.1:{port}", text)
    assert changed != text
    assert "/run/mysite/http.sock" in changed
    return changed.replace("/run/mysite/http.sock", path)


EXAMPLES = {
    "nginx": Kind(
        "nginx",
        "nginx",
        lambda directory, port, behind: proxies.nginx_http(
            directory, port, example("mysite.nginx", port, behind)
        ),
    ),
    "haproxy": Kind(
        "haproxy",
        "haproxy",
        lambda directory, port, behind: proxies.haproxy(directory, example("mysite.haproxy", port, behind)),
    ),
    "apache": Kind(
        "apache",
        "apache2",
        lambda directory, port, behind: proxies.apache(
            directory, port, example("mysite.apache", port, behind)
        ),
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_behind_an_example_the_application_sees_the_client_as_it_is(name: str) -> None:
    """Whatever the client says of itself, and whatever it asks the proxy to leave out."""
    kind = EXAMPLES[name]
    if not kind.is_installed:
        pytest.skip(f"{kind.program} is not installed")
    path = Path(tempfile.mkdtemp(prefix="spawning")) / "http.sock"
    path.parent.chmod(0o755)
    options = (f"-bunix:{path}", "--unix-mode=666", "--trusted-proxies=unix", "-l/dev/null")
    try:
        with serving("apps.numbered:app", "-s1", *options) as _, kind.running(f"unix:{path}") as proxy:
            names = "X-Forwarded-For, X-Forwarded-Proto, Forwarded"
            for fields in [(), CLAIMS, (*CLAIMS, *CLAIMS), (*CLAIMS, f"Connection: {names}")]:
                seen, _ = ask(proxy, *fields)
                assert (seen["REMOTE_ADDR"], seen.get("REMOTE_PORT")) == (CLIENT, None)
                assert (seen["wsgi.url_scheme"], seen["HTTP_HOST"]) == ("http", "mysite.example")
                assert seen["SERVER_PORT"] == "80"
    finally:
        shutil.rmtree(path.parent)
