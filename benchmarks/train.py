"""What the release build is trained by: the requests that are answered most,
on a build that counts its branches.

`MATURIN_PGO=1 pip install .` runs it as `python -m benchmarks.train` (`pgo-command` in pyproject.toml), in a
virtualenv that holds the counting build and nothing else, so it makes do with the standard library.
"""

from __future__ import annotations

import random
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

HELLO = "benchmarks.apps.hello:app"
SHAPES = "benchmarks.apps.shapes:app"
LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")

CONNECTIONS = 64
TIMEOUT_S = 60
#: The fields of a request as wrk, a proxy and a browser send them.
WRK = ("Host: 127.0.0.1:8080",)
PROXY = (
    "Host: www.example.com",
    "X-Forwarded-For: 192.0.2.1",
    "X-Forwarded-Proto: https",
    "Accept-Encoding: gzip",
)
BROWSER = (
    "Host: www.example.com",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Cookie: csrftoken=aLongToken; sessionid=anotherLongToken",
)


def message(line: str, fields: Sequence[str], body: bytes = b"") -> bytes:
    """A request."""
    return "\r\n".join([line, *fields, "", ""]).encode() + body


def get(path: str, fields: Sequence[str] = WRK) -> bytes:
    """A request without a body."""
    return message(f"GET {path} HTTP/1.1", fields)


def post(path: str, body: bytes) -> bytes:
    """A request with a body."""
    return message(f"POST {path} HTTP/1.1", [*WRK, f"Content-Length: {len(body)}"], body)


@contextmanager
def serving(app: str, threads: int) -> Iterator[int]:
    """A server of one process; yields its port. It must end politely, or what it has counted is lost."""
    command = [
        sys.executable,
        "-m",
        "spawning",
        "--port=0",
        "-i127.0.0.1",
        "-s1",
        f"-t{threads}",
        "-l/dev/null",
    ]
    with subprocess.Popen([*command, app], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        port = 0
        for line in server.stderr:
            if match := LISTENING.search(line):
                port = int(match[1])
            if line.startswith("ready"):
                break
        yield port
        server.terminate()
        # Whatever else it says must not fill the pipe.
        server.stderr.read()
    if server.returncode != 0:
        raise SystemExit(f"{command} ended with {server.returncode}")


def receive(connection: socket.socket, size: int) -> None:
    """Read so many bytes."""
    while size > 0:
        data = connection.recv(min(size, 1 << 20))
        if not data:
            raise SystemExit("the server closed a connection early")
        size -= len(data)


def response_size(port: int, request: bytes) -> int:
    """How long the response to a request is: every time as long, as only its date changes."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        size = 0
        while data := connection.recv(1 << 20):
            size += len(data)
    return size - len("Connection: close\r\n")


def converse(port: int, requests: Sequence[bytes], rounds: int, connections: int = CONNECTIONS) -> None:
    """In each round some of the connections, rarely the same, send a request each and read the responses."""
    sizes = {request: response_size(port, request) for request in requests}
    dice = random.Random(1)
    everyone = [socket.create_connection(("127.0.0.1", port), TIMEOUT_S) for _ in range(connections)]
    for _ in range(rounds):
        some = dice.sample(everyone, dice.randint(1, connections))
        asked = [(connection, dice.choice(requests)) for connection in some]
        for connection, request in asked:
            connection.sendall(request)
        for connection, request in asked:
            receive(connection, sizes[request])
    for connection in everyone:
        connection.close()


def call(port: int, request: bytes, times: int) -> None:
    """A connection for each request."""
    for _ in range(times):
        response_size(port, request)


def main() -> None:
    """Train."""
    for threads in (1, 4):
        with serving(HELLO, threads) as port:
            converse(port, [get("/", fields) for fields in (WRK, PROXY, BROWSER)], 3000)
            converse(port, [get("/?page=1&order=name")], 10_000, connections=1)
            call(port, get("/"), 5000)
        with serving(SHAPES, threads) as port:
            converse(port, [get("/instant"), post("/echo", b"x" * 1024)], 500)
            converse(port, [get("/chunks"), get("/busy-1ms"), get("/asleep-10ms")], 10)
            converse(port, [get("/large"), get("/file"), post("/echo", b"x" * 1024 * 1024)], 5, connections=4)


if __name__ == "__main__":
    main()
