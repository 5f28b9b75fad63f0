"""Raises what PyO3 raises for a panic in Rust: where that comes back to the server, it is one again."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def panic() -> BaseException:
    kinds = {kind.__name__: kind for kind in BaseException.__subclasses__()}
    return kinds["PanicException"]("attempt to subtract with overflow")


class Body:
    """Panics at the first piece, after it, or at the end of it all."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __iter__(self) -> Iterator[bytes]:
        if self.where == "first":
            raise panic()
        yield b"begun\n"
        if self.where == "second":
            raise panic()

    def close(self) -> None:
        if self.where == "close":
            raise panic()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    where = environ["PATH_INFO"].strip("/")
    if where == "error":
        # PyO3 makes the type when it first looks at an exception.
        raise ValueError(where)
    if where == "call":
        raise panic()
    start_response("200 OK", [("Content-Type", "text/plain")])
    if where == "thread":
        return [threading.current_thread().name.encode()]
    if where == "started":
        raise panic()
    return Body(where)
