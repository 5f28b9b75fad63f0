"""`wsgi.input` is a file to the standard library: whatever reads a file of io reads it."""

from __future__ import annotations

import io
import json
import pickle
import random
import tarfile
from collections.abc import Iterator

import pytest

from apps.input_file import WAYS
from conftest import ServerFactory
from server import Server
from wire import CLOSE, HOST, LAST_CHUNK, chunked, message, serving

CHUNKED = "Transfer-Encoding: chunked"
#: In memory, and in a temporary file.
SIZES = [0, 10, 5000, 300_000]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.input_file:app", "-s1", "-t2") as server:
        yield server


@pytest.fixture(scope="module")
def streaming() -> Iterator[Server]:
    with serving("apps.input_file:app", "-s1", "-t2", "--stream-uploads") as server:
        yield server


def post(path: str, body: bytes, *fields: str) -> bytes:
    path = path.replace(" ", "%20")
    return message(f"POST {path} HTTP/1.1", HOST, f"Content-Length: {len(body)}", *fields, CLOSE, body=body)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", WAYS)
def test_the_standard_library_reads_it(server: Server, streaming: Server, way: str, size: int) -> None:
    # An even number of bytes in lines: one way reads items of two.
    body = random.Random(size).randbytes(size).replace(b"a", b"\n")
    for each in (server, streaming):
        response = each.request(post(f"/read?{way}", body))
        assert (response.status, response.body) == (200, body)


def test_modules_of_the_standard_library_decode_it(server: Server) -> None:
    value = {"a": [1, 2.5, None], "b": "text" * 10_000}
    assert server.request(post("/decoded?json", json.dumps(value).encode())).body == repr(value).encode()
    assert server.request(post("/decoded?pickle", pickle.dumps(value))).body == repr(value).encode()
    rows = [["a", "b,c"], ["d\ne", "f"]]
    assert server.request(post("/decoded?csv", b'a,"b,c"\r\n"d\ne",f\r\n')).body == repr(rows).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        info = tarfile.TarInfo("member")
        info.size = 100_000
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    assert server.request(post("/decoded?tar", archive.getvalue())).body == repr(bytes(100_000)).encode()


def test_it_says_what_a_file_says(server: Server) -> None:
    said = json.loads(server.request(post("/asked", b"body")).body)
    expected = {
        **{"readable": "True", "writable": "False", "seekable": "False", "isatty": "False", "flush": "None"},
        **{"io": "[True, True, False]", "closed": "False", "closed at last": "True"},
    }
    assert said.items() >= expected.items()
    for name in ["fileno", "tell", "detach", "seek", "write"]:
        assert said[name].startswith("UnsupportedOperation: "), name
    assert said["readinto"].startswith("TypeError: ")
    for name in ["read", "readline", "readlines", "read1", "readable", "__iter__", "__enter__"]:
        assert said[f"{name} at last"].startswith("ValueError: I/O operation on closed file"), name


def test_a_closed_input_leaves_the_connection_alone(server: Server) -> None:
    with server.connect() as connection, connection.makefile("rb") as stream:
        for _ in range(2):
            connection.sendall(message("POST /asked HTTP/1.1", HOST, "Content-Length: 4", body=b"body"))
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            length = next(int(line[15:]) for line in stream if line.lower().startswith(b"content-length:"))
            while stream.readline() != b"\r\n":
                pass
            stream.read(length)


def test_text_of_a_streamed_upload_is_read_as_it_arrives(streaming: Server) -> None:
    with streaming.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message("POST /greeted HTTP/1.1", HOST, CHUNKED, CLOSE, body=b"6\r\nhello\n\r\n"))
        streaming.wait_for_log("heard hello")
        connection.sendall(b"5\r\nworld\r\n" + LAST_CHUNK)
        assert stream.read().endswith(b"world")


def test_a_chunked_upload_that_is_streamed_has_no_content_length(streaming: Server) -> None:
    """`0` would say that it is empty."""
    raw = message("POST /length HTTP/1.1", HOST, CHUNKED, CLOSE, body=chunked(b"abc", b"def"))
    assert streaming.request(raw).body == b"None abcdef"
    assert streaming.request(post("/length", b"abc")).body == b"'3' abc"


def test_a_chunked_upload_has_a_length_where_it_is_buffered(server_factory: ServerFactory) -> None:
    server = server_factory("apps.input_file:app", "-s1", "--stream-uploads", "--buffer-chunked")
    raw = message("POST /length HTTP/1.1", HOST, CHUNKED, CLOSE, body=chunked(b"abc", b"def"))
    assert server.request(raw).body == b"'6' abcdef"
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(
            message("POST /greeted HTTP/1.1", HOST, "Content-Length: 11", CLOSE, body=b"hello\n")
        )
        server.wait_for_log("heard hello")
        connection.sendall(b"world")
        assert stream.read().endswith(b"world")


@pytest.mark.parametrize("path", ["trusting", "wrapping"])
def test_a_malformed_chunk_is_the_clients_error_in_the_log(streaming: Server, path: str) -> None:
    """A line, and no traceback: the application is not to blame."""
    before = streaming.stderr_text().count("Traceback")
    raw = message(f"POST /{path} HTTP/1.1", HOST, CHUNKED, body=b"3\r\nabcX" + LAST_CHUNK)
    assert streaming.request(raw).status == 400
    streaming.wait_for_log(f"the client's fault.*POST /{path}")
    streaming.wait_for_log(f'"POST /{path} HTTP/1.1" 400 ')
    assert streaming.stderr_text().count("Traceback") == before


def test_a_client_that_leaves_is_its_own_fault_in_the_log(streaming: Server) -> None:
    before = streaming.stderr_text().count("Traceback")
    with streaming.connect() as connection:
        connection.sendall(message("POST /trusting?gone HTTP/1.1", HOST, CHUNKED, body=b"3\r\nabc\r\n"))
    streaming.wait_for_log("the client's fault.*POST /trusting.gone.*the client is gone")
    assert streaming.stderr_text().count("Traceback") == before
