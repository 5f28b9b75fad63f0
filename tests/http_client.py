"""Reads one HTTP/1.1 response at a time, as strictly as RFC 9112 lets a client be.

A test must see what the server sent, so nothing is repaired here: a malformed response is an AssertionError,
one that ends too soon is `Truncated` and carries what had arrived.
"""

import re
from dataclasses import dataclass, field
from typing import BinaryIO

LINE_BYTES_MAX = 65536

STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-9][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)\r\n")
FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t ]*([\t\x20-\x7e\x80-\xff]*?)[\t ]*\r\n")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")


@dataclass
class Response:
    """One response; strings are latin-1, so that every byte is kept."""

    status: int
    reason: str
    version: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The value of the field `name`, None when absent; more than one such field is a fault."""
        values = self.header_all(name)
        assert len(values) <= 1, f"{len(values)} {name} fields: {values}"
        return values[0] if values else None

    def header_all(self, name: str) -> list[str]:
        """The values of every field `name`, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Truncated(ConnectionError):
    """The connection ended inside a response. `response` is what had arrived, None without a whole head."""

    def __init__(self, where: str, response: Response | None = None) -> None:
        super().__init__(f"connection ended {where}")
        self.response = response


class Unanswered(Truncated):
    """The connection ended before the first byte of a response, as an idle one may at any time."""


def read_response(stream: BinaryIO, head: bool = False) -> Response:
    """Read exactly one response, and nothing of the next. An interim (1xx) response counts as one.

    `head` says that it answers a HEAD request and so has no body, whatever its fields say (RFC 9112 6.3).
    """
    response = _read_head(stream)
    coding, length = response.header("Transfer-Encoding"), response.header("Content-Length")
    assert coding is None or length is None, "both Transfer-Encoding and Content-Length"
    if response.status < 200 or response.status in (204, 304):
        assert coding is None, f"Transfer-Encoding in a {response.status} response"
        return response
    if head:
        return response
    if coding is not None:
        assert coding.lower() == "chunked", f"Transfer-Encoding {coding!r}"
        _read_chunks(stream, response)
    elif length is not None:
        assert re.fullmatch("[0-9]+", length), f"Content-Length {length!r}"
        _read_exactly(stream, int(length), response)
    else:
        response.body = stream.read()
    return response


def _read_head(stream: BinaryIO) -> Response:
    line = stream.readline(LINE_BYTES_MAX)
    if not line:
        raise Unanswered("before a line")
    match = STATUS_LINE.fullmatch(_whole(line, None))
    assert match, f"status line {line!r}"
    version, status, reason = match.groups()
    response = Response(int(status), reason.decode("latin-1"), version.decode("latin-1"))
    response.headers = _read_fields(stream, None)
    return response


def _read_fields(stream: BinaryIO, response: Response | None) -> list[tuple[str, str]]:
    fields: list[tuple[str, str]] = []
    while (line := _read_line(stream, response)) != b"\r\n":
        match = FIELD_LINE.fullmatch(line)
        assert match, f"field line {line!r}"
        name, value = match.groups()
        fields.append((name.decode("latin-1"), value.decode("latin-1")))
    return fields


def _read_chunks(stream: BinaryIO, response: Response) -> None:
    while True:
        line = _read_line(stream, response)
        match = CHUNK_LINE.fullmatch(line)
        assert match, f"chunk line {line!r}"
        size = int(match.group(1), 16)
        if size == 0:
            break
        _read_exactly(stream, size, response)
        end = stream.read(2)
        if len(end) < 2:
            raise Truncated("inside a chunk", response)
        assert end == b"\r\n", f"chunk not ended by CRLF but {end!r}"
    _read_fields(stream, response)


def _read_exactly(stream: BinaryIO, size: int, response: Response) -> None:
    data = stream.read(size)
    response.body += data
    if len(data) < size:
        raise Truncated(f"{size - len(data)} bytes before the end of the body", response)


def _read_line(stream: BinaryIO, response: Response | None) -> bytes:
    return _whole(stream.readline(LINE_BYTES_MAX), response)


def _whole(line: bytes, response: Response | None) -> bytes:
    if not line.endswith(b"\n"):
        raise Truncated(f"after {line!r}" if line else "before a line", response)
    return line
