"""Steady load on a server, which notices every request that fails.

Keep-alive clients keep to RFC 9112: a connection whose last response said `close` is not used again. Nothing
is tried twice: a request that gets no complete answer has failed. Only a client that stood still for longer
than the server waits for it, as all do on a machine that stops for seconds, has failed itself.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from types import TracebackType

from http_client import Response, Unanswered, read_response
from wire import CLOSE, HOST, message

TIMEOUT_S = 60.0
#: How long a worker that drains leaves a connection open whose next request may be on its way.
DRAIN_IDLE_TIMEOUT_S = 0.5
#: How a connection ends before the first byte of an answer.
UNANSWERED = (Unanswered, ConnectionResetError, BrokenPipeError)


class Connection:
    """A client's connection, and whether it was used as fast as the server may expect."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.opened_at = self._used_at = time.monotonic()
        self._socket = socket.create_connection(address, TIMEOUT_S)
        #: Whether the last request came so late that a server which drains had given it up.
        self.came_late = False

    def ask(self, raw: bytes) -> Response:
        """Send a request and return its response."""
        used_before, self._used_at = self._used_at, time.monotonic()
        try:
            self._socket.sendall(raw)
        finally:
            self.came_late = time.monotonic() - used_before > DRAIN_IDLE_TIMEOUT_S
        with self._socket.makefile("rb") as stream:
            return read_response(stream, head=raw.startswith(b"HEAD "))

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def assert_ended(self) -> None:
        """Wait until the server has closed it."""
        assert self._socket.recv(1) == b""

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class Load:
    """Clients that send `GET path` one after the other from `with` to its end, half of them keep alive.

    Before each request they pause.
    """

    def __init__(
        self, address: tuple[str, int], path: str = "/", clients: int = 6, pause_s: float = 0
    ) -> None:
        self.failures: list[str] = []
        #: When the connections were opened that failed.
        self.failed_from: list[float] = []
        #: How often each body was received.
        self.bodies: Counter[bytes] = Counter()
        self._address = address
        self._path = path
        self._pause_s = pause_s
        self._changed = threading.Condition()
        self._ended = False
        self._threads = [
            threading.Thread(target=self._run, args=(index % 2 == 0,), daemon=True)
            for index in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended = True
        for thread in self._threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()

    @property
    def answered(self) -> int:
        """Requests answered so far."""
        with self._changed:
            return self.bodies.total()

    def wait_for(self, body: bytes, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until a client has received `body`."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.bodies[body], timeout_s), (body, self.bodies)

    def wait_for_more(self, count: int, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until `count` more requests have been answered."""
        with self._changed:
            enough = self.bodies.total() + count
            assert self._changed.wait_for(lambda: self.bodies.total() >= enough, timeout_s)

    def _run(self, keep_alive: bool) -> None:
        connection: Connection | None = None
        while not self._ended:
            time.sleep(self._pause_s)
            began = time.monotonic()
            try:
                connection = connection or Connection(self._address)
                response = self._ask(connection, keep_alive)
            except (OSError, AssertionError) as error:
                if not (connection and connection.came_late and isinstance(error, UNANSWERED)):
                    kind = "kept" if keep_alive else "new"
                    after_s = time.monotonic() - began
                    text = f"{kind}: {type(error).__name__}: {error} after {after_s:.3f} s"
                    self._failed(text, connection.opened_at if connection else began)
                response = None
            if response is None or response.header("Connection") == "close":
                if connection:
                    connection.close()
                connection = None
        if connection:
            connection.close()

    def _failed(self, text: str, opened_at: float) -> None:
        with self._changed:
            self.failures.append(text)
            self.failed_from.append(opened_at)

    def _ask(self, connection: Connection, keep_alive: bool) -> Response:
        fields = [] if keep_alive else [CLOSE]
        response = connection.ask(message(f"GET {self._path} HTTP/1.1", HOST, *fields))
        if response.status != 200:
            self._failed(f"{response.status} {response.body!r}", connection.opened_at)
        with self._changed:
            self.bodies[response.body] += 1
            self._changed.notify_all()
        return response
