"""A server that can be fooled: it knows no Transfer-Encoding, and takes what looks like a request for one."""

from __future__ import annotations

import contextlib
import re
import socketserver
import threading
from collections.abc import Iterator

REQUEST_LINE = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]\r\n")


class FooledServer(socketserver.ThreadingTCPServer):
    """Remembers what it has seen, and says its number in each response."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.seen: list[dict[str, str]] = []

    def number(self, method: bytes, target: bytes) -> int:
        """The number of a request that has just been seen."""
        with self.lock:
            self.seen.append({"method": method.decode(), "target": target.decode("latin-1")})
            return len(self.seen) - 1


class Handler(socketserver.StreamRequestHandler):
    """One connection."""

    server: FooledServer

    def handle(self) -> None:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while line := self.rfile.readline():
                if match := REQUEST_LINE.fullmatch(line):
                    self.answer(match[1], match[2])

    def answer(self, method: bytes, target: bytes) -> None:
        length = 0
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        self.rfile.read(length)
        number = self.server.number(method, target)
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Request-Number: %d\r\nContent-Length: 0\r\n\r\n" % number)


@contextlib.contextmanager
def fooled() -> Iterator[FooledServer]:
    """Such a server, while it runs."""
    with FooledServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
