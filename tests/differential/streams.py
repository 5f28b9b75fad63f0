"""What clients send to a proxy: pipelines that mean one thing, and bytes that two servers might read
differently.

A request is marked in its query, `/?m=name`, so that it is known wherever it turns up. Bodies hold requests,
too, which must never be taken for what they look like.
"""

from __future__ import annotations

from dataclasses import dataclass

from shapes import TABLE
from wire import HOST, chunked, message

CHUNKED = "Transfer-Encoding: chunked"


def inner(marker: str) -> bytes:
    """A request for the inside of a body."""
    return message(f"GET /?m=inside-{marker} HTTP/1.1", HOST)


@dataclass(frozen=True)
class Request:
    """A request that means one thing."""

    method: str
    marker: str
    raw: bytes
    body: bytes = b""


def request(
    method: str, marker: str, *fields: str, body: bytes = b"", raw: bytes | None = None, answer: str = ""
) -> Request:
    """A request with a body, sent as `raw` if that is another sequence of bytes."""
    target = f"/?m={marker}&answer={answer}"
    sent = body if raw is None else raw
    return Request(method, marker, message(f"{method} {target} HTTP/1.1", HOST, *fields, body=sent), body)


def sized(method: str, marker: str, body: bytes, *fields: str, answer: str = "") -> Request:
    """A request whose body has a length."""
    return request(method, marker, f"Content-Length: {len(body)}", *fields, body=body, answer=answer)


def coded(method: str, marker: str, body: bytes, raw: bytes, answer: str = "") -> Request:
    """A request whose body is chunked."""
    return request(method, marker, CHUNKED, body=body, raw=raw, answer=answer)


#: One of each that every proxy understands.
REQUESTS = [
    request("GET", "get"),
    request("HEAD", "head"),
    request("GET", "streamed", answer="streamed"),
    request("GET", "nothing", answer="204"),
    request("GET", "unchanged", answer="304"),
    request("HEAD", "head-streamed", answer="streamed"),
    sized("POST", "sized", inner("sized")),
    sized("POST", "empty", b""),
    sized("PUT", "expecting", b"expected", "Expect: 100-continue", answer="streamed"),
    sized("GET", "get-with-body", inner("get")),
    sized("DELETE", "delete-with-body", inner("delete")),
    sized("HEAD", "head-with-body", inner("head")),
    coded("POST", "chunked", inner("chunked"), chunked(inner("chunked"))),
    coded("POST", "byte-by-byte", b"hello", chunked(b"h", b"e", b"l", b"l", b"o"), answer="streamed"),
    coded("POST", "only-the-last-chunk", b"", chunked()),
    coded("PATCH", "many-zeros", b"hello", b"0005\r\nhello\r\n000\r\n\r\n"),
    coded("POST", "capitals", b"0123456789", b"A\r\n0123456789\r\n0\r\n\r\n"),
]

#: Pipelines of them.
PIPELINES: dict[str, list[Request]] = {
    "all": REQUESTS,
    "all the other way": REQUESTS[::-1],
    "thrice": [REQUESTS[0]] * 3,
    **{f"{one.marker} and get": [one, REQUESTS[0], one] for one in REQUESTS[1:]},
}


def post(*fields: str, body: bytes = b"", line: str = "POST /?m=outer HTTP/1.1") -> bytes:
    return message(line, HOST, *fields, body=body)


def get(target: str, *fields: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    return message(f"{method} {target} {version}", HOST, *fields)


def length_of(body: bytes) -> str:
    return f"Content-Length: {len(body)}"


INSIDE = inner("x")
#: A chunked body for one, and for whoever goes by the length the start of another request.
HIDDEN = b"0\r\n\r\n" + INSIDE

#: Shapes that are valid for some, beside all those that this server refuses.
AMBIGUOUS: dict[str, bytes] = {
    # Which of the two counts.
    "length shorter than the chunks": post("Content-Length: 4", CHUNKED, body=chunked(INSIDE)),
    "length longer than the chunks": post(length_of(HIDDEN), CHUNKED, body=HIDDEN),
    "length zero and a body": post("Content-Length: 0", body=INSIDE),
    "length with zeros before": post(f"Content-Length: 000{len(INSIDE)}", body=INSIDE),
    "length with white space": post(f"Content-Length: \t{len(INSIDE)} \t", body=INSIDE),
    "length with an underscore": post(f"Content_Length: {len(INSIDE)}", body=INSIDE),
    "coding with an underscore": post("Transfer_Encoding: chunked", "Content-Length: 5", body=HIDDEN),
    "coding in capitals": post("TRANSFER-ENCODING: CHUNKED", body=HIDDEN),
    "coding after a tab": post("Transfer-Encoding:\tchunked", body=HIDDEN),
    "coding without a space": post("Transfer-Encoding:chunked", body=HIDDEN),
    "coding with white space after": post("Transfer-Encoding: chunked \t", body=HIDDEN),
    "coding in another field's fold": post("X-A: b", " Transfer-Encoding: chunked", body=HIDDEN),
    "coding of http 1.0": post(CHUNKED, body=HIDDEN, line="POST /?m=outer HTTP/1.0"),
    "coding and a length of http 1.0": post(
        CHUNKED, length_of(HIDDEN), "Connection: keep-alive", body=HIDDEN, line="POST /?m=outer HTTP/1.0"
    ),
    "body of a get": post(length_of(INSIDE), body=INSIDE, line="GET /?m=outer HTTP/1.1"),
    "chunked body of a get": post(CHUNKED, body=HIDDEN, line="GET /?m=outer HTTP/1.1"),
    "body of options": post(length_of(INSIDE), body=INSIDE, line="OPTIONS /?m=outer HTTP/1.1"),
    "body of trace": post(length_of(INSIDE), body=INSIDE, line="TRACE /?m=outer HTTP/1.1"),
    "body of an unknown method": post(length_of(INSIDE), body=INSIDE, line="BREW /?m=outer HTTP/1.1"),
    # Fields that a proxy is asked to take out.
    "connection names the length": post(
        length_of(INSIDE), "Connection: keep-alive, Content-Length", body=INSIDE
    ),
    "connection names the coding": post(CHUNKED, "Connection: Transfer-Encoding", body=HIDDEN),
    "connection names the host": get("/?m=outer", "Connection: Host"),
    "keep-alive names the length": post(length_of(INSIDE), "Keep-Alive: Content-Length", body=INSIDE),
    "te says chunked": post("TE: chunked", body=HIDDEN),
    "trailers are announced": post(CHUNKED, "TE: trailers", "Trailer: Content-Length", body=HIDDEN),
    # Chunks.
    "extension": post(CHUNKED, body=b"5;a=b\r\nhello\r\n" + HIDDEN),
    "quoted extension": post(CHUNKED, body=b'5;a="b;\\"c"\r\nhello\r\n' + HIDDEN),
    "extension of the last chunk": post(CHUNKED, body=b"5\r\nhello\r\n0;a=b\r\n\r\n" + INSIDE),
    "extension without a name": post(CHUNKED, body=b"5;\r\nhello\r\n" + HIDDEN),
    "extension that hides a line feed": post(CHUNKED, body=b"5;\nxx\r\nhello\r\n" + HIDDEN),
    "extension that hides a chunk": post(
        CHUNKED, body=b"2;\nxx\r\n15\r\n0\r\n\r\n" + INSIDE + b"\r\n" + HIDDEN
    ),
    "space after the size": post(CHUNKED, body=b"5 \r\nhello\r\n" + HIDDEN),
    "tab after the size": post(CHUNKED, body=b"5\t\r\nhello\r\n" + HIDDEN),
    "two bytes instead of the end": post(CHUNKED, body=b"5\r\nhelloXX5\r\nhello\r\n" + HIDDEN),
    "one byte too many": post(CHUNKED, body=b"5\r\nhellox\r\n0\r\n\r\n" + INSIDE),
    "size of 32 bits and more": post(CHUNKED, body=b"100000005\r\nhello\r\n0\r\n\r\n" + INSIDE),
    "size of 64 bits and more": post(CHUNKED, body=b"10000000000000005\r\nhello\r\n0\r\n\r\n" + INSIDE),
    "trailer": post(CHUNKED, body=b"5\r\nhello\r\n0\r\nX-A: b\r\n\r\n" + INSIDE),
    "trailer that is a length": post(CHUNKED, body=b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n" + INSIDE),
    "trailer that is a coding": post(
        CHUNKED, body=b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n" + HIDDEN
    ),
    "trailer that is a request": post(
        CHUNKED, body=b"0\r\nGET /?m=inside-trailer HTTP/1.1\r\n" + HOST.encode()
    ),
    "last chunk without its last line end": post(CHUNKED, body=b"5\r\nhello\r\n0\r\n" + INSIDE),
    # What is expected.
    "expectation without a body": get("/?m=outer", "Expect: 100-continue"),
    "expectation of a get with a body": post(
        length_of(INSIDE), "Expect: 100-continue", body=INSIDE, line="GET /?m=outer HTTP/1.1"
    ),
    "expectation of head with a body": post(
        length_of(INSIDE), "Expect: 100-continue", body=INSIDE, line="HEAD /?m=outer HTTP/1.1"
    ),
    "expectation with white space": post(length_of(INSIDE), "Expect:  100-continue\t", body=INSIDE),
    "two expectations alike": post(
        length_of(INSIDE), "Expect: 100-continue", "Expect: 100-continue", body=INSIDE
    ),
    "expectation and chunks": post(CHUNKED, "Expect: 100-continue", body=HIDDEN),
    # An answer that comes before the body has.
    "body over the limit": post("Content-Length: 5000", body=INSIDE * 200),
    "chunks over the limit": post(CHUNKED, body=chunked(b"x" * 1500, b"x" * 1500) + INSIDE),
    "body that never ends": post("Content-Length: 1000", body=INSIDE),
    # Other protocols.
    "upgrade to http 2": get(
        "/?m=outer",
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    ),
    "upgrade to websocket": get(
        *["/?m=outer", "Connection: Upgrade", "Upgrade: websocket"],
        *["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="],
    ),
    "http 1.0 that stays": get("/?m=outer", "Connection: keep-alive", version="HTTP/1.0"),
    "http 1.2": get("/?m=outer", version="HTTP/1.2"),
    "http 0.9": b"GET /?m=outer\r\n",
    "proxy protocol": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    # Targets and hosts.
    "absolute target of another host": get("http://other.example/?m=outer"),
    "absolute target without a path": get("http://localhost?m=outer"),
    "dot segments": get("/a/../b/./c?m=outer"),
    "encoded dot segments": get("/a/%2e%2e/%2E%2E/b?m=outer"),
    "dot segments with a parameter": get("/a/..;/b?m=outer"),
    "encoded slash": get("/a%2fb%5Cc?m=outer"),
    "encoded nul": get("/a%00b?m=outer"),
    "encoded line end": get("/a%0d%0aX-A:%20b?m=outer"),
    "percent without digits": get("/a%zz%?m=outer"),
    "many slashes": get("//a///b?m=outer"),
    "backslash": get("/a\\b?m=outer"),
    "bytes beyond ascii": get("/caf\xe9?m=outer"),
    "question marks": get("/??m=outer?"),
    "host with a port": message("GET /?m=outer HTTP/1.1", "Host: localhost:80"),
    "host in capitals": message("GET /?m=outer HTTP/1.1", "HOST: LOCALHOST"),
    "empty host": message("GET /?m=outer HTTP/1.1", "Host:"),
    # Methods.
    "method in small letters": get("/?m=outer", method="get"),
    "method of strange letters": get("/?m=outer", method="M!$%&'*+-.^_`|~"),
    # Between requests.
    "line end after a body": post(length_of(b"hello"), body=b"hello\r\n") + INSIDE,
    "line feed after a body": post(length_of(b"hello"), body=b"hello\n") + INSIDE,
    "line ends before a request": b"\r\n" + INSIDE,
    # Fields.
    "a hundred fields": get("/?m=outer", *[f"X-{index}: v" for index in range(80)]),
    "a long field": get("/?m=outer", f"X-A: {'a' * 6000}"),
    "empty field": get("/?m=outer", "X-A:"),
    "repeated fields": get("/?m=outer", "X-A: 1", "X-A: 2", "Cookie: a=b", "Cookie: c=d"),
}


def streams() -> dict[str, bytes]:
    """All that two servers might read differently, each followed by a request that asks for the end."""
    refused = {f"refused - {name}": raw for name, (raw, _) in TABLE.items()}
    rows = {**refused, **{f"ambiguous - {name}": raw for name, raw in AMBIGUOUS.items()}}
    return {
        name: raw + get(f"/?m=next-{index}") + get(f"/?m=last-{index}", "Connection: close")
        for index, (name, raw) in enumerate(rows.items())
    }
