"""Objects with a `read()` of every kind, returned in `wsgi.file_wrapper`."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import socket
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.gate import log, wait_for_file
from apps.routes import PLAIN_TEXT, Routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

app = Routes()

CONTENT = bytes(range(256)) * 1000
PART = CONTENT[5:1005]


def stored(directory: Path, name: str, data: bytes) -> Path:
    """A file that holds `data`."""
    path = directory / name
    path.write_bytes(data)
    return path


def plain(directory: Path) -> Any:
    """What the kernel may send."""
    return opened_at(stored(directory, "plain", CONTENT), "rb")


def opened_at(path: Path, *arguments: Any) -> Any:
    """The file, which whoever gets the wrapper closes."""
    return path.open(*arguments)


class Shown:
    """A thousand bytes of a file, whose descriptor is in sight."""

    def __init__(self, file: Any) -> None:
        self.file, self.left = file, len(PART)
        file.seek(5)

    def fileno(self) -> int:
        return int(self.file.fileno())

    def tell(self) -> int:
        return 0

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.file.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(data)
        return data

    def close(self) -> None:
        self.file.close()


class Swapping(io.BufferedReader):
    """A subclass of a class of io that gives other bytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size).swapcase()


class SwappingRaw(io.FileIO):
    """The same below a buffer."""

    def readinto(self, buffer: Any, /) -> int:
        data = (super().read(len(buffer)) or b"").swapcase()
        buffer[: len(data)] = data
        return len(data)


def expanding(path: Path) -> Any:
    """What a file compressed by xz holds."""
    return lzma.LZMAFile(path)


def with_read_replaced(file: Any) -> Any:
    """The file, with a `read` of its own."""
    original = file.read

    def read(size: int = -1) -> bytes:
        data: bytes = original(size)
        return data.swapcase()

    file.read = read
    return file


def raw_replaced(directory: Path) -> Any:
    """A buffer over a file whose `readinto` was replaced."""
    raw = io.FileIO(stored(directory, "raw", CONTENT))
    original = raw.read

    def readinto(buffer: Any) -> int:
        data = (original(len(buffer)) or b"").swapcase()
        buffer[: len(data)] = data
        return len(data)

    raw.readinto = readinto  # type: ignore[method-assign]
    return io.BufferedReader(raw)


def member(directory: Path) -> Any:
    """A member of an archive."""
    with zipfile.ZipFile(directory / "archive", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", CONTENT)
    return zipfile.ZipFile(directory / "archive").open("member")


def temporary(factory: Any, **arguments: Any) -> Any:
    """A temporary file that was written, and stands at its start."""
    file = factory(**arguments)
    file.write(CONTENT)
    file.seek(0)
    return file


def unflushed(directory: Path) -> Any:
    """A file whose last bytes are still in its buffer."""
    file = (directory / "unflushed").open("w+b")
    file.write(CONTENT[:-10])
    file.seek(0, os.SEEK_END)
    file.write(CONTENT[-10:])
    file.seek(0)
    return file


def connected(directory: Path) -> Any:
    """What a socket's peer has sent."""
    ours, theirs = socket.socketpair()
    theirs.sendall(PART)
    theirs.close()
    file = ours.makefile("rb")
    ours.close()
    return file


def piped(directory: Path, buffering: int = -1) -> Any:
    """The reading end of a pipe."""
    reader, writer = os.pipe()
    os.write(writer, PART)
    os.close(writer)
    return os.fdopen(reader, "rb", buffering)


def moved(file: Any, position: int = 5) -> Any:
    """The file, not at its start."""
    file.seek(position)
    return file


class Backwards:
    """No file at all but `read`."""

    def __init__(self) -> None:
        self.read = io.BytesIO(CONTENT[::-1]).read


#: By name: an object, and what all of its `read()` gives.
KINDS: dict[str, tuple[Callable[[Path], Any], bytes]] = {
    "plain": (plain, CONTENT),
    "unbuffered": (lambda at: opened_at(stored(at, "raw", CONTENT), "rb", 0), CONTENT),
    "for update": (lambda at: opened_at(stored(at, "update", CONTENT), "r+b"), CONTENT),
    "not from its start": (lambda at: moved(plain(at)), CONTENT[5:]),
    "at its end": (lambda at: moved(plain(at), len(CONTENT)), b""),
    "past its end": (lambda at: moved(plain(at), 10**9), b""),
    "empty": (lambda at: opened_at(stored(at, "empty", b""), "rb"), b""),
    "unflushed": (unflushed, CONTENT),
    "gzip": (lambda at: gzip.GzipFile(stored(at, "gz", gzip.compress(CONTENT))), CONTENT),
    "bz2": (lambda at: bz2.BZ2File(stored(at, "bz2", bz2.compress(CONTENT))), CONTENT),
    "xz": (lambda at: expanding(stored(at, "xz", lzma.compress(CONTENT))), CONTENT),
    "member of an archive": (member, CONTENT),
    "part of a file": (lambda at: Shown(plain(at)), PART),
    "subclass": (lambda at: Swapping(io.FileIO(stored(at, "raw", CONTENT))), CONTENT.swapcase()),
    "subclass below a buffer": (
        lambda at: io.BufferedReader(SwappingRaw(stored(at, "raw", CONTENT))),
        CONTENT.swapcase(),
    ),
    "read replaced": (lambda at: with_read_replaced(plain(at)), CONTENT.swapcase()),
    "read replaced below a buffer": (raw_replaced, CONTENT.swapcase()),
    "read of a temporary file replaced": (
        lambda at: with_read_replaced(temporary(tempfile.NamedTemporaryFile, dir=at)),
        CONTENT.swapcase(),
    ),
    "temporary": (lambda at: temporary(tempfile.TemporaryFile, dir=at), CONTENT),
    "named temporary": (lambda at: temporary(tempfile.NamedTemporaryFile, dir=at), CONTENT),
    "spooled in memory": (lambda at: temporary(tempfile.SpooledTemporaryFile, max_size=10**6), CONTENT),
    "spooled on disk": (lambda at: temporary(tempfile.SpooledTemporaryFile, max_size=10, dir=at), CONTENT),
    "bytesio": (lambda at: moved(io.BytesIO(CONTENT)), CONTENT[5:]),
    "socket": (connected, PART),
    "pipe": (piped, PART),
    "unbuffered pipe": (lambda at: piped(at, 0), PART),
    "only read": (lambda at: Backwards(), CONTENT[::-1]),
    "of a size that is not true": (lambda at: opened_at(Path("/proc/version"), "rb"), b""),
    "of a size that is too large": (
        lambda at: opened_at(Path("/sys/kernel/mm/transparent_hugepage/enabled"), "rb"),
        b"",
    ),
    "text": (lambda at: opened_at(stored(at, "text", b"text")), b"text"),
}


@app.bare
def returned(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The kind, in a directory, with a Content-Length or none: `KIND&DIRECTORY&LENGTH`."""
    name, directory, length = environ["QUERY_STRING"].replace("%20", " ").split("&")
    fields = [("Content-Length", length)] if length else []
    start_response("200 OK", [*PLAIN_TEXT, *fields])
    file = KINDS[name][0](Path(directory))
    # As Django does.
    if hasattr(file, "__dict__") and hasattr(file, "close"):
        close = file.close

        def closing() -> None:
            close()
            log(f"closed {name}")

        file.close = closing
    return environ["wsgi.file_wrapper"](file)  # type: ignore[no-any-return]


@app.bare
def changing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A file that the test changes once its head is sent: `PATH&GATE`."""
    path, gate = environ["QUERY_STRING"].split("&")
    write = start_response("200 OK", [*PLAIN_TEXT, ("Content-Length", str(Path(path).stat().st_size))])
    file = opened_at(Path(path), "rb")
    write(file.read(1))
    wait_for_file(gate)
    return environ["wsgi.file_wrapper"](file)  # type: ignore[no-any-return]


@app.bare
def opened(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The file that the query names, as it is."""
    start_response("200 OK", list(PLAIN_TEXT))
    file = opened_at(Path(environ["QUERY_STRING"]), "rb")
    return environ["wsgi.file_wrapper"](file)  # type: ignore[no-any-return]


@app.bare
def positions(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """What the wrapper says of positions in the file of that kind: `KIND&DIRECTORY`."""
    name, directory = environ["QUERY_STRING"].replace("%20", " ").split("&")
    wrapper = environ["wsgi.file_wrapper"](KINDS[name][0](Path(directory)))
    said = [wrapper.seekable()]
    if said[0]:
        said += [wrapper.seek(100), wrapper.tell(), wrapper.seek(0, os.SEEK_END), wrapper.tell()]
    wrapper.close()
    start_response("200 OK", list(PLAIN_TEXT))
    return [repr(said).encode()]


@app.bare
def ranged(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Werkzeug answers a range of the file that the query names."""
    from werkzeug.utils import send_file

    response = send_file(environ["QUERY_STRING"], environ, mimetype="text/plain", conditional=True)
    return response(environ, start_response)


@app.bare
def bytes_read(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Bytes that this process has read so far, by any system call (proc_pid_io(5))."""
    start_response("200 OK", list(PLAIN_TEXT))
    return [Path("/proc/self/io").read_text().split()[1].encode()]
