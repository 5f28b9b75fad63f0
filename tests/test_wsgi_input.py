"""PEP 3333, "Input and Error Streams": wsgi.input behaves like a file, however the body came.

`The semantics of each method are as documented in the Python Library Reference`, so io.BytesIO is the oracle.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator

import pytest

from apps.input import Operation, perform
from server import Server, read_response
from wire import CLOSE, HOST, chunked, message, serving

KIB = 1024
MIB = 1024 * KIB
#: Around the 64 KiB up to which a body stays in memory, and on both sides of it.
BODY_SIZES = [0, 1, 10, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB]
SEEDS = range(6)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.input:app", "-s1", "-t4") as server:
        yield server


def lines_of(size: int, dice: random.Random) -> bytes:
    """`size` bytes of lines of very different lengths, some empty, some ended by CRLF, the last by
    nothing."""
    parts: list[bytes] = []
    while sum(len(part) for part in parts) < size:
        parts.append(dice.randbytes(dice.choice([0, 1, 3, 80, 5000, 100_000])).replace(b"\n", b"."))
        parts.append(dice.choice([b"\n", b"\n\n", b"\r\n", b"\r"]))
    return b"".join(parts)[:size]


def operations_for(size: int, dice: random.Random) -> list[Operation]:
    """Twenty operations in random order, and then one that reads past the end in every way."""
    sizes = [-1, 0, 1, 2, 9, 1000, 65536, max(size // 3, 1), size + 1]
    # Those that may take everything are rarer, lest the rest of the sequence read from an exhausted stream.
    small = [n for n in sizes if 0 <= n <= max(size // 3, 1)]
    choices: list[Operation] = [
        *[("read", [n]) for n in small],
        *[("readline", arguments) for arguments in [[], [], *([n] for n in sizes)]],
        *[("readlines", [n]) for n in small if n > 0],
        *[("next", [n]) for n in (0, 1, 2)],
    ]
    greedy: list[Operation] = [
        *[("read", []), ("read", [-1]), ("read", [size + 1])],
        *[("readlines", []), ("readlines", [0]), ("readlines", [-1]), ("next", [1_000_000])],
    ]
    at_the_end: list[Operation] = [
        *[("read", []), ("read", [1]), ("readline", []), ("readline", [5])],
        *[("readlines", []), ("readlines", [5]), ("next", [1]), ("read", [-1])],
    ]
    return [*dice.choices(choices, k=20), dice.choice(greedy), *at_the_end]


def sent(body: bytes, coding: str, path: str, *fields: str) -> bytes:
    """A request with `body`, framed by its length or cut into chunks."""
    if coding == "length":
        return message(
            f"POST {path} HTTP/1.1", HOST, f"Content-Length: {len(body)}", *fields, CLOSE, body=body
        )
    dice = random.Random(len(body))
    chunks, start = [], 0
    while start < len(body):
        chunks.append(body[start : start + dice.choice([1, 7, 1000, 65536, 300_000])])
        start += len(chunks[-1])
    framing = "Transfer-Encoding: chunked"
    return message(f"POST {path} HTTP/1.1", HOST, framing, *fields, CLOSE, body=chunked(*chunks))


def performed(
    server: Server, body: bytes, operations: list[Operation], coding: str, path: str
) -> list[object]:
    response = server.request(sent(body, coding, path, f"X-Operations: {json.dumps(operations)}"))
    assert response.status == 200, response
    return list(json.loads(response.body))


@pytest.mark.parametrize("coding", ["length", "chunked"])
@pytest.mark.parametrize("size", BODY_SIZES)
@pytest.mark.parametrize("seed", SEEDS)
def test_any_sequence_of_reads_gives_what_a_file_gives(
    server: Server, seed: int, size: int, coding: str
) -> None:
    dice = random.Random(f"{seed} {size}")
    body = lines_of(size, dice)
    operations = operations_for(size, dice)
    expected = perform(io.BytesIO(body), operations)
    found = performed(server, body, operations, coding, "/bare")
    for operation, expectation, finding in zip(operations, expected, found, strict=True):
        assert finding == expectation, operation


LEGAL: list[list[Operation]] = [
    [("read", [5]), ("read", [100])],
    [("read", [-1])],
    [("readline", []), ("readline", [2]), ("readline", []), ("readline", [])],
    [("readlines", [])],
    [("readlines", [1]), ("read", [100])],
    [("next", [2]), ("readline", []), ("read", [100])],
]


@pytest.mark.parametrize("operations", LEGAL, ids=str)
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_what_the_validator_allows_works_under_the_validator(
    server: Server, coding: str, operations: list[Operation]
) -> None:
    body = b"one\ntwo\r\n\nfour and more"
    assert performed(server, body, operations, coding, "/legal") == perform(io.BytesIO(body), operations)


PAST_THE_END: list[Operation] = [
    *[("read", []), ("read", [10]), ("read", [-1]), ("read", [0])],
    *[("readline", []), ("readline", [10]), ("readlines", []), ("readlines", [10]), ("next", [1])],
]


@pytest.mark.parametrize("operation", PAST_THE_END, ids=str)
@pytest.mark.parametrize("fields", [[], ["Content-Length: 0"], ["Transfer-Encoding: chunked"]], ids=str)
def test_an_empty_input_is_at_its_end_at_once(
    server: Server, fields: list[str], operation: Operation
) -> None:
    """`A server should return empty bytestrings from any attempt to read from an empty or exhausted input
    stream`. On a connection that stays open, a read that waited for more would never return."""
    body = chunked() if "Transfer-Encoding: chunked" in fields else b""
    asked = f"X-Operations: {json.dumps([operation, operation])}"
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message("POST /bare HTTP/1.1", HOST, asked, *fields, body=body))
        assert json.loads(read_response(stream).body) == perform(io.BytesIO(), [operation, operation])


def test_the_input_ends_before_the_next_request(server: Server) -> None:
    """`Should simulate an end-of-file condition if the application attempts to read past that point`."""
    asked = f"X-Operations: {json.dumps([('read', [100]), ('read', [])])}"
    first = message("POST /bare HTTP/1.1", HOST, asked, "Content-Length: 3", body=b"abc")
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(first + message("GET /ignore HTTP/1.1", HOST, CLOSE))
        assert json.loads(read_response(stream).body)[0][1] == "abc"
        assert read_response(stream).body == b"ignored"


@pytest.mark.parametrize("coding", ["length", "chunked"])
@pytest.mark.parametrize("size", [10, MIB])
def test_an_input_that_nobody_reads_is_not_the_next_request(server: Server, size: int, coding: str) -> None:
    """What is left of a body must not be parsed as a request: it would be the client's to forge."""
    forged = message("GET /forged HTTP/1.1", HOST)
    body = (forged * (size // len(forged) + 1))[:size]
    raw = sent(body, coding, "/ignore").replace(CLOSE.encode(), b"X-Kept: open")
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(raw)
        assert read_response(stream).body == b"ignored"
        connection.sendall(message("GET /ignore HTTP/1.1", HOST, CLOSE))
        assert read_response(stream).body == b"ignored"
        assert stream.read() == b""


@pytest.mark.parametrize("coding", ["length", "chunked"])
@pytest.mark.parametrize("size", BODY_SIZES)
def test_a_body_comes_back_as_it_was_sent(server: Server, size: int, coding: str) -> None:
    body = random.Random(size).randbytes(size)
    assert server.request(sent(body, coding, "/echo?1000")).body == body
