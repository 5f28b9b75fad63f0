"""Proxies in front: who is believed about whom, and who is not."""

from __future__ import annotations

import io
import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import ServerFactory
from http_client import read_response
from proxy_protocol import LOCAL, PROXY, TCP4, TCP6, addresses, vector, version_1, version_2
from server import Response, Server, run_to_end
from wire import CLOSE, DELIVERIES, HOST, deliver, message, read_to_end, serving

TRUSTED = "--trusted-proxies=127.0.0.0/8,10.0.0.0/8"
CLIENT, SERVER, HEARSAY = "192.0.2.1", "198.51.100.2", "203.0.113.9"
#: A trusted proxy between the client and the peer, and what the peer says of the scheme.
NEAR, HTTPS = "10.0.0.7", "X-Forwarded-Proto: https"
#: All that is believed of a trusted proxy.
BELIEVED = ("REMOTE_ADDR", "REMOTE_PORT", "wsgi.url_scheme", "HTTP_HOST", "SERVER_NAME", "SERVER_PORT")

#: One way to say it, and the other.
OLDER = (
    f"X-Forwarded-For: {HEARSAY}, {CLIENT}, 10.0.0.7",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: www.example:8443",
)
STANDARD = (
    f"Forwarded: for={HEARSAY};proto=http;host=evil.example",
    f'Forwarded: for={CLIENT};proto=https;host="www.example:8443", for=10.0.0.7;proto=http',
)


def environ_of(response: Response) -> dict[str, str]:
    """What the application saw, as far as it is text."""
    assert response.status == 200, response
    values = json.loads(response.body)["values"]
    return {key: entry["value"] for key, entry in values.items() if isinstance(entry["value"], str)}


def ask(server: Server, *fields: str, host: str = HOST) -> Response:
    return server.request(message("GET / HTTP/1.1", host, CLOSE, *fields))


def converse(server: Server, sent: bytes) -> bytes:
    with server.connect() as connection:
        connection.sendall(sent)
        return read_to_end(connection)


def ask_behind(server: Server, header: bytes, *fields: str) -> dict[str, str]:
    """What the application sees of a request behind a header of the PROXY protocol."""
    raw = converse(server, header + message("GET / HTTP/1.1", HOST, CLOSE, *fields))
    return environ_of(read_response(io.BytesIO(raw)))


def of_connection(server: Server) -> dict[str, str]:
    """What is to be believed when nobody is: but for the port, which changes."""
    host, port = server.address
    told = {"REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http", "HTTP_HOST": "localhost"}
    return {**told, "SERVER_NAME": host, "SERVER_PORT": str(port)}


@pytest.fixture(scope="module")
def unasked() -> Iterator[Server]:
    with serving("apps.environ:bare", "-s1") as server:
        yield server


@pytest.fixture(scope="module")
def trusting() -> Iterator[Server]:
    with serving("apps.environ:bare", "-s1", TRUSTED) as server:
        yield server


@pytest.fixture(scope="module")
def distrusting() -> Iterator[Server]:
    with serving("apps.environ:bare", "-s1", "--trusted-proxies=10.0.0.0/8,unix,::1") as server:
        yield server


@pytest.fixture(scope="module")
def proxied() -> Iterator[Server]:
    with serving("apps.environ:bare", "-s1", TRUSTED, "--proxy-protocol=on") as server:
        yield server


# === Fields ===


@pytest.mark.parametrize("fields", [OLDER, STANDARD, (*OLDER, *STANDARD)], ids=["older", "standard", "both"])
def test_a_trusted_proxy_is_believed(trusting: Server, fields: tuple[str, ...]) -> None:
    environ = environ_of(ask(trusting, *fields))
    assert [environ.get(key) for key in BELIEVED] == [
        *[CLIENT, None, "https"],
        *["www.example:8443", "www.example", "8443"],
    ]
    if fields is OLDER:
        assert environ["HTTP_X_FORWARDED_FOR"] == f"{HEARSAY}, {CLIENT}, 10.0.0.7"


@pytest.mark.parametrize("fields", [OLDER, STANDARD], ids=["older", "standard"])
def test_nobody_else_is_believed_and_the_fields_are_dropped(
    distrusting: Server, fields: tuple[str, ...]
) -> None:
    others = ("X-Real-IP: 192.0.2.1", "X-Forwarded-Ssl: on", "X-Forwarded-Port: 1", "X-Other: kept")
    environ = environ_of(ask(distrusting, *fields, *others))
    assert environ.items() >= of_connection(distrusting).items()
    assert [key for key in environ if "FORWARDED" in key or "REAL" in key] == []
    assert environ["HTTP_X_OTHER"] == "kept"


@pytest.mark.parametrize("fields", [OLDER, STANDARD], ids=["older", "standard"])
def test_with_no_proxy_named_the_fields_are_handed_on_and_change_nothing(
    unasked: Server, fields: tuple[str, ...]
) -> None:
    """Frameworks have their own settings for them, such as Django's SECURE_PROXY_SSL_HEADER."""
    environ = environ_of(ask(unasked, *fields))
    assert environ.items() >= of_connection(unasked).items()
    if fields is OLDER:
        assert environ["HTTP_X_FORWARDED_PROTO"] == "https"
    else:
        assert environ["HTTP_FORWARDED"].startswith(f"for={HEARSAY}")


def test_what_a_proxy_does_not_tell_stays_as_it_is(trusting: Server) -> None:
    assert environ_of(ask(trusting)).items() >= of_connection(trusting).items()
    environ = environ_of(ask(trusting, f"X-Forwarded-For: {CLIENT}:4711"))
    expected = {**of_connection(trusting), "REMOTE_ADDR": CLIENT, "REMOTE_PORT": "4711"}
    assert environ.items() >= expected.items()
    environ = environ_of(ask(trusting, "X-Forwarded-Proto: https"))
    expected = {**of_connection(trusting), "wsgi.url_scheme": "https", "SERVER_PORT": "443"}
    assert environ.items() >= expected.items()
    environ = environ_of(ask(trusting, "X-Forwarded-Port: 444", "X-Forwarded-Proto: https"))
    assert environ["SERVER_PORT"] == "444"


@pytest.mark.parametrize(
    "fields",
    [
        ("X-Forwarded-Proto: https", "X-Forwarded-Proto: https"),
        ("X-Forwarded-Proto: https", "x-forwarded-proto: http"),
        ("X-Forwarded-Host: a", "X-Forwarded-Host: b"),
        ("X-Forwarded-Port: 80", "X-Forwarded-Port: 443"),
        ("X-Forwarded-Proto: ftp",),
        ("X-Forwarded-Proto: https, ftp",),
        ("Forwarded: proto=https", "X-Forwarded-Proto: https, http"),
        ("X-Forwarded-Proto:",),
        ("X-Forwarded-Host: a b",),
        ("X-Forwarded-Port: 0",),
        ("X-Forwarded-For: localhost",),
        ("X-Forwarded-For: 192.0.2.1, 10.0.0.256",),
        ("Forwarded: for=192.0.2.1;for=192.0.2.2",),
        ("Forwarded: for=192.0.2.1;proto=http;proto=https",),
        ('Forwarded: for="192.0.2.1',),
        ("Forwarded: for",),
        ("Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.2"),
        ("Forwarded: proto=http", "X-Forwarded-Proto: https"),
        ("Forwarded: host=a", "X-Forwarded-Host: b"),
    ],
    ids=" and ".join,
)
def test_what_is_malformed_repeated_or_contradictory_is_refused(
    trusting: Server, distrusting: Server, fields: tuple[str, ...]
) -> None:
    response = ask(trusting, *fields)
    assert (response.status, response.header("Connection")) == (400, "close")
    assert b"Forwarded" in response.body
    # From others it is hearsay like all of it.
    assert environ_of(ask(distrusting, *fields))["REMOTE_ADDR"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("clients", "proto", "scheme"),
    [
        (None, "https,http", "http"),
        (None, "http, https", "https"),
        (CLIENT, "https, http", "http"),
        (f"{CLIENT}, {NEAR}", "https,http", "https"),
        (f"{CLIENT}, {NEAR}", "https", "https"),
        (f"{HEARSAY}, {CLIENT}, {NEAR}", "http, https, http", "https"),
    ],
)
def test_of_a_list_the_entry_of_the_proxy_that_heard_from_the_client_counts(
    trusting: Server, clients: str | None, proto: str, scheme: str
) -> None:
    """Each proxy that appends writes one: as many from the end as there are trusted proxies."""
    heard = [f"X-Forwarded-For: {clients}"] if clients else []
    environ = environ_of(ask(trusting, *heard, f"X-Forwarded-Proto: {proto}"))
    assert environ["wsgi.url_scheme"] == scheme
    hosts = ", ".join(f"{entry.strip()}.example" for entry in proto.split(","))
    environ = environ_of(ask(trusting, *heard, f"X-Forwarded-Host: {hosts}"))
    assert environ["HTTP_HOST"] == f"{scheme}.example"


@pytest.mark.parametrize("target", ["https://localhost/", "HTTPS://localhost/?a"])
def test_an_https_target_is_answered_only_if_a_trusted_proxy_vouches_for_it(
    trusting: Server, distrusting: Server, target: str
) -> None:
    """RFC 9110 section 7.4: otherwise the request is misdirected."""
    raw = [message(f"GET {target} HTTP/1.1", HOST, *fields, CLOSE) for fields in ([], [HTTPS])]
    assert [trusting.request(request).status for request in raw] == [421, 200]
    assert [distrusting.request(request).status for request in raw] == [421, 421]
    assert trusting.request(message("GET http://localhost/ HTTP/1.1", HOST, HTTPS, CLOSE)).status == 200


def test_each_request_of_a_connection_has_its_own_client(trusting: Server) -> None:
    """A proxy's connections carry the requests of many."""
    with trusting.connect() as connection, connection.makefile("rb") as stream:
        for fields, client in [
            (["X-Forwarded-For: 192.0.2.1"], "192.0.2.1"),
            (["X-Forwarded-For: 192.0.2.2", "X-Forwarded-Proto: https"], "192.0.2.2"),
            ([], "127.0.0.1"),
        ]:
            connection.sendall(message("GET / HTTP/1.1", HOST, *fields))
            environ = environ_of(read_response(stream))
            assert environ["REMOTE_ADDR"] == client
            assert environ["wsgi.url_scheme"] == ("https" if len(fields) == 2 else "http")


def test_the_access_log_names_the_client(server_factory: ServerFactory) -> None:
    server = server_factory("apps.environ:bare", "-s1", TRUSTED)
    ask(server, f"X-Forwarded-For: {HEARSAY}, {CLIENT}")
    server.wait_for_log(rf"^{re.escape(CLIENT)} - - ")
    assert ask(server, "X-Forwarded-Proto: ftp").status == 400
    server.wait_for_log(r'^127\.0\.0\.1 - - .*" 400 ')


def test_a_unix_socket_is_trusted_by_its_own_name(server_factory: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    seen = {}
    for trusted in ("unix", "127.0.0.1"):
        trust = f"--trusted-proxies={trusted},10.0.0.0/8"
        server = server_factory("apps.environ:bare", "-s1", f"-bunix:{path}", trust)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(path))
            connection.sendall(message("GET / HTTP/1.1", HOST, CLOSE, *OLDER))
            seen[trusted] = environ_of(read_response(connection.makefile("rb")))
        server.stop()
    assert [seen["unix"].get(key) for key in ("REMOTE_ADDR", "wsgi.url_scheme")] == [CLIENT, "https"]
    assert [seen["127.0.0.1"].get(key) for key in ("REMOTE_ADDR", "wsgi.url_scheme")] == ["", "http"]


def test_the_application_of_an_absolute_target_sees_the_proxys_host(trusting: Server) -> None:
    raw = message("GET http://inner.example/ HTTP/1.1", HOST, CLOSE, "X-Forwarded-Host: www.example")
    assert environ_of(trusting.request(raw))["HTTP_HOST"] == "www.example"


# === The PROXY protocol ===

HEADERS = {
    "version 1": version_1(CLIENT, SERVER, 4711, 443),
    "version 1, IPv6": version_1("2001:db8::1", "2001:db8::2", 4711, 443),
    "version 2": version_2(PROXY, TCP4, addresses(CLIENT, SERVER, 4711, 443)),
    "version 2, IPv6": version_2(PROXY, TCP6, addresses("2001:db8::1", "2001:db8::2", 4711, 443)),
}


@pytest.mark.parametrize("deliver_as", DELIVERIES)
@pytest.mark.parametrize("name", HEADERS)
def test_the_header_names_both_ends(
    proxied: Server, name: str, deliver_as: Callable[[bytes], list[bytes]]
) -> None:
    client, server = ("2001:db8::1", "2001:db8::2") if "IPv6" in name else (CLIENT, SERVER)
    with proxied.connect() as connection, connection.makefile("rb") as stream:
        deliver(connection, deliver_as(HEADERS[name] + message("GET / HTTP/1.1", HOST)))
        for _ in range(2):
            environ = environ_of(read_response(stream))
            told = ("REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme")
            assert [environ[key] for key in told] == [client, "4711", server, "443", "http"]
            connection.sendall(message("GET / HTTP/1.1", HOST))


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        version_2(LOCAL, 0, b""),
        version_2(LOCAL, TCP4, addresses(CLIENT, SERVER, 1, 2)),
        version_2(PROXY, 0, b""),
        version_2(PROXY, 0x31, b"\0" * 216),
    ],
    ids=["unknown", "unknown with more", "local", "local with addresses", "unspecified", "unix"],
)
def test_a_health_check_has_its_own_ends(proxied: Server, header: bytes) -> None:
    assert ask_behind(proxied, header).items() >= of_connection(proxied).items()


def test_a_tls_part_makes_the_scheme_https(proxied: Server) -> None:
    block = addresses(CLIENT, SERVER, 4711, 443) + vector(0x01, b"http/1.1") + vector(0x20, b"\x01\0\0\0\0")
    assert ask_behind(proxied, version_2(PROXY, TCP4, block))["wsgi.url_scheme"] == "https"


def test_behind_the_header_is_the_client_and_not_the_proxy(proxied: Server) -> None:
    """A proxy that relays bytes does not vouch for them."""
    environ = ask_behind(proxied, HEADERS["version 1"], *OLDER)
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == (CLIENT, "http")
    assert "HTTP_X_FORWARDED_FOR" not in environ
    # Unless that is a proxy, too.
    environ = ask_behind(proxied, version_1("10.0.0.9", SERVER, 1, 80), f"X-Forwarded-For: {HEARSAY}")
    assert environ["REMOTE_ADDR"] == HEARSAY


def test_the_access_log_names_the_relayed_client(server_factory: ServerFactory) -> None:
    server = server_factory("apps.environ:bare", "-s1", TRUSTED, "--proxy-protocol=v1")
    ask_behind(server, HEADERS["version 1"])
    server.wait_for_log(rf'^{re.escape(CLIENT)} - - .*" 200 ')


@pytest.mark.parametrize(
    "sent",
    [
        message("GET / HTTP/1.1", HOST),
        b"\r\n" + message("GET / HTTP/1.1", HOST),
        b"proxy tcp4 192.0.2.1 198.51.100.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY " + b"x" * 200,
        version_2(0x22, TCP4, addresses(CLIENT, SERVER, 1, 2)),
        version_2(0x11, TCP4, addresses(CLIENT, SERVER, 1, 2)),
        version_2(PROXY, TCP6, addresses(CLIENT, SERVER, 1, 2)),
        version_2(PROXY, 0x44, b""),
        version_2(PROXY, TCP4, addresses(CLIENT, SERVER, 1, 2) + b"\x04\xff\xff"),
        version_2(PROXY, TCP4, addresses(CLIENT, SERVER, 1, 2) + vector(0x03, b"\0\0\0\0")),
        version_2(PROXY, TCP4, addresses(CLIENT, SERVER, 1, 2) + vector(0x04, b"\0" * 5000)),
        version_2(PROXY, TCP4, b"\xff" * 65535),
    ],
    ids=[
        *[
            "no header",
            "an empty line",
            "small letters",
            "a bare line feed",
            "five words",
            "no port",
            "family",
        ],
        *["endless", "command", "version", "too short", "unknown family", "vector", "checksum"],
        *["too long", "longest"],
    ],
)
def test_a_connection_of_a_proxy_without_a_valid_header_is_refused(proxied: Server, sent: bytes) -> None:
    said = converse(proxied, sent + message("GET / HTTP/1.1", HOST))
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"PROXY protocol" in said
    assert said.count(b"HTTP/1.1") == 1


def test_the_longest_header_is_taken(proxied: Server) -> None:
    """4,096 bytes, of which 31 are not padding."""
    block = addresses(CLIENT, SERVER, 4711, 443) + vector(0x04, b"\0" * (4096 - 31))
    assert len(version_2(PROXY, TCP4, block)) == 4096
    assert ask_behind(proxied, version_2(PROXY, TCP4, block))["REMOTE_ADDR"] == CLIENT
    longer = addresses(CLIENT, SERVER, 4711, 443) + vector(0x04, b"\0" * (4097 - 31))
    assert converse(proxied, version_2(PROXY, TCP4, longer)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("sent", [b"PROXY TCP4", version_2(LOCAL, 0, b"x")[:-1]], ids=["v1", "v2"])
def test_a_header_must_come_in_time(server_factory: ServerFactory, sent: bytes) -> None:
    arguments = [TRUSTED, "--proxy-protocol=on", "--header-timeout=1"]
    server = server_factory("apps.environ:bare", "-s1", *arguments)
    assert converse(server, sent).startswith(b"HTTP/1.1 408 ")


def test_one_version_is_not_the_other(server_factory: ServerFactory) -> None:
    for version, header, other in [("v1", "version 1", "version 2"), ("v2", "version 2", "version 1")]:
        server = server_factory("apps.environ:bare", "-s1", TRUSTED, f"--proxy-protocol={version}")
        assert ask_behind(server, HEADERS[header])["REMOTE_ADDR"] == CLIENT
        assert converse(server, HEADERS[other]).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_anybody_else_is_refused(
    unasked: Server, trusting: Server, server_factory: ServerFactory, name: str
) -> None:
    """Whether the protocol is off, or the peer is no proxy; who is none speaks HTTP."""
    strict = server_factory("apps.environ:bare", "-s1", "--trusted-proxies=10.0.0.0/8", "--proxy-protocol=on")
    for server in (unasked, trusting, strict):
        said = converse(server, HEADERS[name] + message("GET / HTTP/1.1", HOST))
        assert said.startswith(b"HTTP/1.1 400 ")
        assert said.count(b"HTTP/1.1 ") == 1
    assert environ_of(ask(strict))["REMOTE_ADDR"] == "127.0.0.1"


# === Words ===


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--trusted-proxies=localhost"], "--trusted-proxies: .*neither an address nor a network"),
        (["--trusted-proxies=10.0.0.0/33"], "--trusted-proxies: .*0 to 32 bits"),
        (["--trusted-proxies=10.0.0.1/8"], "--trusted-proxies: .*bits beyond its prefix"),
        (["--proxy-protocol=v3", "--trusted-proxies=unix"], "--proxy-protocol: .*neither off, v1, v2 nor on"),
        (["--proxy-protocol=v2"], "--proxy-protocol: requires --trusted-proxies"),
    ],
)
def test_a_mistake_is_named(arguments: list[str], fault: str) -> None:
    ended = run_to_end(*arguments, "apps.hello:app")
    assert ended.returncode == 64
    said, hint = ended.stderr.splitlines()
    assert re.match(f"spawn: {fault}", said)
    assert hint.startswith("hint: ")


def test_every_mention_counts_and_a_file_has_a_list(server_factory: ServerFactory, tmp_path: Path) -> None:
    (tmp_path / "spawning.toml").write_text('trusted-proxies = ["10.0.0.0/8", "127.0.0.1, unix"]\n')
    server = server_factory("apps.environ:bare", "-s1", f"--config={tmp_path / 'spawning.toml'}")
    assert environ_of(ask(server, *OLDER))["REMOTE_ADDR"] == CLIENT
    server = server_factory(
        "apps.environ:bare", "-s1", environment={"SPAWN_TRUSTED_PROXIES": "10.0.0.0/8 127.0.0.1"}
    )
    assert environ_of(ask(server, *OLDER))["REMOTE_ADDR"] == CLIENT
