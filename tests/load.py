"""Steady load on a server, which notices every request that fails.

Keep-alive clients keep to RFC 9112: a connection whose last response said `close` is not used again. Nothing
is tried twice: a request that gets no complete answer has failed.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from types import TracebackType

from http_client import Response, read_response
from wire import CLOSE, HOST, message

TIMEOUT_S = 20.0


class Load:
    """Clients that send `GET path` one after the other from `with` to its end; half of them keep alive."""

    def __init__(self, address: tuple[str, int], path: str = "/", clients: int = 6) -> None:
        self.failures: list[str] = []
        #: How often each body was received.
        self.bodies: Counter[bytes] = Counter()
        self._address = address
        self._path = path
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
        connection: socket.socket | None = None
        while not self._ended:
            began = time.monotonic()
            try:
                connection = connection or socket.create_connection(self._address, TIMEOUT_S)
                response = self._ask(connection, keep_alive)
            except (OSError, AssertionError) as error:
                with self._changed:
                    kind = "kept" if keep_alive else "new"
                    after_s = time.monotonic() - began
                    self.failures.append(f"{kind}: {type(error).__name__}: {error} after {after_s:.3f} s")
                response = None
            if response is None or response.header("Connection") == "close":
                if connection:
                    connection.close()
                connection = None
        if connection:
            connection.close()

    def _ask(self, connection: socket.socket, keep_alive: bool) -> Response:
        connection.sendall(message(f"GET {self._path} HTTP/1.1", HOST, *([] if keep_alive else [CLOSE])))
        with connection.makefile("rb") as stream:
            response = read_response(stream)
        with self._changed:
            if response.status != 200:
                self.failures.append(f"{response.status} {response.body!r}")
            self.bodies[response.body] += 1
            self._changed.notify_all()
        return response
