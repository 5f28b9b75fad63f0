"""The connection of a request that asks for another protocol, for an application that speaks it."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from typing import Any, Protocol


class UpgradeHandle(Protocol):
    """What the server knows of the connection. Once it is collected, the connection counts no more."""

    def take(self) -> tuple[int, bytes]:
        """Hand over a descriptor of the connection, and the bytes that have come behind the request."""


class UpgradeSocket:
    """A socket whose connection is the server's until it is first used, and the application's ever after.

    It has the methods of :class:`socket.socket`. Those that receive give first the bytes that came behind the
    request, and so does ``makefile``. ``close()`` ends the connection, also for what ``dup()`` has made;
    ``detach()`` keeps it open.
    """

    def __init__(self, handle: UpgradeHandle) -> None:
        """Offer the connection that ``handover`` hands over."""
        self._handle: UpgradeHandle | None = handle
        self._lock = threading.Lock()
        self._taken: Any = None
        self._early = b""
        self._io_refs = 0
        self._closed = False

    def __repr__(self) -> str:
        """Say who has the connection, and leave it there."""
        return f"<{type(self).__name__} of {self._taken or 'the server'!r}>"

    def __getattr__(self, name: str) -> Any:
        """Do what the socket does, whose connection is the application's from now on."""
        # Inspection of an object asks for names like these.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._socket(), name)

    def __enter__(self) -> UpgradeSocket:
        """Return itself; leaving the block closes it."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close it."""
        if not self._closed:
            self.close()

    def _socket(self) -> Any:
        """The connection, which from now on is the application's."""
        with self._lock:
            if self._taken is None and self._handle is not None:
                descriptor, self._early = self._handle.take()
                # In green mode this is the library's, which lets others run where it waits.
                self._taken = socket.socket(-1, -1, -1, fileno=descriptor)
                self._taken.settimeout(None)
            if self._taken is None:
                raise OSError("the connection is not this application's any more")
            return self._taken

    def fileno(self) -> int:
        """The descriptor, of which early bytes cannot be read; -1 once it is closed."""
        return -1 if self._closed and self._taken is None else int(self._socket().fileno())

    def recv(self, count: int, flags: int = 0) -> bytes:
        """Return at most ``count`` bytes, at least one unless the peer has ended."""
        taken = self._socket()
        return self._take_early(count, flags) if self._early else taken.recv(count, flags)

    def recvfrom(self, count: int, flags: int = 0) -> tuple[bytes, Any]:
        """Do the same, and name the sender."""
        taken = self._socket()
        return (self._take_early(count, flags), None) if self._early else taken.recvfrom(count, flags)

    def recv_into(self, buffer: Any, count: int = 0, flags: int = 0) -> int:
        """Do the same into a buffer, and return how many bytes that were."""
        taken = self._socket()
        if not self._early:
            return int(taken.recv_into(buffer, count, flags))
        with memoryview(buffer) as view, view.cast("B") as room:
            data = self._take_early(count or len(room), flags)
            room[: len(data)] = data
        return len(data)

    def _take_early(self, count: int, flags: int) -> bytes:
        data = self._early[:count]
        if not flags & socket.MSG_PEEK:
            self._early = self._early[count:]
        return data

    def makefile(
        self,
        mode: str = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """Return a file over the connection, as :meth:`socket.socket.makefile` does."""
        if not set(mode) <= {"r", "w", "b"}:
            raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
        reads, writes = "r" in mode or "w" not in mode, "w" in mode
        raw: Any = socket.SocketIO(self, "r" * reads + "w" * writes)  # type: ignore[arg-type]
        self._io_refs += 1
        size = io.DEFAULT_BUFFER_SIZE if buffering is None or buffering < 0 else buffering
        if size == 0:
            if "b" not in mode:
                raise ValueError("unbuffered streams must be binary")
            return raw
        buffer: Any
        if reads and writes:
            buffer = io.BufferedRWPair(raw, raw, size)
        else:
            buffer = io.BufferedReader(raw, size) if reads else io.BufferedWriter(raw, size)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline)

    def _decref_socketios(self) -> None:
        self._io_refs -= self._io_refs > 0
        if self._closed:
            self.close()

    def close(self) -> None:
        """End the connection, once the last file over it is closed, too."""
        self._closed = True
        if self._io_refs > 0:
            return
        with self._lock:
            taken, self._handle = self._taken, None
        if taken is not None and taken.fileno() >= 0:
            # The server holds the connection as long as the call for the request lasts.
            with contextlib.suppress(OSError):
                taken.shutdown(socket.SHUT_RDWR)
            taken.close()

    def detach(self) -> int:
        """Return the descriptor, which is left open."""
        descriptor = int(self._socket().detach())
        self._closed = True
        with self._lock:
            self._handle = None
        return descriptor
