"""Takes over the connection of a request that asks for another protocol, in as many ways as there are."""

from __future__ import annotations

import contextlib
import select
import threading
from typing import TYPE_CHECKING, Any

from apps.gate import log
from apps.routes import PLAIN_TEXT, Routes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

app = Routes()

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
#: Connections that outlive their calls.
KEPT: list[Any] = []


def echo(connection: Any) -> None:
    """Send back what comes, until the peer ends."""
    connection.sendall(SWITCHING)
    while data := connection.recv(65536):
        connection.sendall(data.upper())


@app.bare
def offered(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers with the keys of sockets, after a look at them that takes nothing."""
    for key in ("spawning.socket", "werkzeug.socket"):
        value = environ.get(key)
        assert not callable(value)
        assert not hasattr(value, "__html__")
        repr(value), str(value), bool(value), value == 1
    start_response("200 OK", list(PLAIN_TEXT))
    return [" ".join(sorted(key for key in environ if "socket" in key)).encode()]


@app.bare
def echoing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Echoes, closes, and returns nothing."""
    with environ["spawning.socket"] as connection:
        echo(connection)
    return []


@app.bare
def responding(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Echoes, and then answers all the same."""
    echo(environ["werkzeug.socket"])
    start_response("200 OK", [*PLAIN_TEXT, ("Content-Length", "100")])
    return iter([b"not ", b"sent"])


@app.bare
def stopping(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Leaves as gunicorn wants it."""
    echo(environ["spawning.socket"])
    raise StopIteration


@app.bare
def failing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Fails in the middle."""
    environ["spawning.socket"].sendall(SWITCHING)
    raise ValueError("in the middle of it")


@app.bare
def by_lines(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Echoes lines by files over the connection, which it has closed by then."""
    connection = environ["spawning.socket"]
    connection.sendall(SWITCHING)
    with connection.makefile("r", encoding="utf-8") as lines, connection.makefile("wb", 0) as file:
        connection.close()
        for line in lines:
            file.write(line.upper().encode())
    return []


@app.bare
def by_select(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Echoes what `select()` finds, without ever blocking; into a buffer."""
    connection, buffer = environ["spawning.socket"], bytearray(10)
    connection.setblocking(False)
    connection.sendall(SWITCHING)
    while True:
        select.select([connection], [], [])
        count = connection.recv_into(buffer)
        if count == 0:
            break
        connection.sendall(buffer[:count].upper())
    connection.close()
    return []


@app.bare
def keeping(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Leaves the connection to a thread that outlives the call."""
    connection = environ["spawning.socket"]
    KEPT.append(connection)

    def serve() -> None:
        with contextlib.suppress(OSError):
            echo(connection)
        KEPT.remove(connection)
        connection.close()
        log("the thread is done")

    threading.Thread(target=serve, daemon=True).start()
    log("the call is done")
    return []


@app.bare
def late(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Wants the connection when its response has begun."""
    start_response("200 OK", list(PLAIN_TEXT))(b"begun ")
    try:
        environ["spawning.socket"].sendall(b"never")
    except OSError as error:
        return [f"{type(error).__name__}".encode()]
    return [b"taken over"]


@app.bare
def websocket(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Echoes the messages of a WebSocket."""
    from simple_websocket import ConnectionClosed, Server

    connection = Server(environ)
    with contextlib.suppress(ConnectionClosed):
        while True:
            connection.send(connection.receive())
    return []
