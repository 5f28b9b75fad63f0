"""What is no valid request, shape by shape, and how it is to be refused.

Rows that were somebody's vulnerability carry its number.
"""

from __future__ import annotations

from wire import HOST, chunked, message

#: What is sent, and the status, or the statuses among which a strict server may choose.
Row = tuple[bytes, int | tuple[int, ...]]

CHUNKED = "Transfer-Encoding: chunked"
SMUGGLED = message("GET /smuggled HTTP/1.1", HOST)


def line(request_line: str) -> bytes:
    return message(request_line, HOST)


def fields(*lines: str) -> bytes:
    return message("POST / HTTP/1.1", HOST, *lines, body=b"hello")


def coded(*lines: str) -> bytes:
    """A body that whoever goes by the coding takes for five bytes, and whoever goes by a length of 15 as it
    is."""
    return message("POST / HTTP/1.1", HOST, *lines, body=chunked(b"hello"))


def hosts(*lines: str) -> bytes:
    return message("GET / HTTP/1.1", *lines)


def body(coded: bytes) -> bytes:
    return message("POST / HTTP/1.1", HOST, CHUNKED, body=coded)


REQUEST_LINES: dict[str, Row] = {
    "empty method": (line(" / HTTP/1.1"), 400),
    "two spaces after the method": (line("GET  / HTTP/1.1"), 400),
    "two spaces before the version": (line("GET /  HTTP/1.1"), 400),
    "space at the end": (line("GET / HTTP/1.1 "), 400),
    "space at the start": (line(" GET / HTTP/1.1"), 400),
    "tabs as separators": (line("GET\t/\tHTTP/1.1"), 400),
    "space in the target": (line("GET /a b HTTP/1.1"), 400),
    "no version (HTTP 0.9)": (line("GET /"), 400),
    "nothing but a method": (line("GET"), 400),
    "garbage": (line("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400),
    "delimiter in the method": (line("G(ET / HTTP/1.1"), 400),
    "control in the method": (line("G\x01ET / HTTP/1.1"), 400),
    "nul in the method": (line("G\0ET / HTTP/1.1"), 400),
    "colon in the method": (line("GET: / HTTP/1.1"), 400),
    "nul in the target": (line("GET /\0 HTTP/1.1"), 400),
    "control in the target": (line("GET /\x1f HTTP/1.1"), 400),
    "delete in the target": (line("GET /\x7f HTTP/1.1"), 400),
    "https over a clear connection": (line("GET https://localhost/ HTTP/1.1"), 421),
    "fragment in the target": (line("GET /a#b HTTP/1.1"), 400),
    "relative target": (line("GET index.html HTTP/1.1"), 400),
    "query without a path": (line("GET ?a=b HTTP/1.1"), 400),
    "asterisk for get": (line("GET * HTTP/1.1"), 400),
    "asterisk and more": (line("OPTIONS *x HTTP/1.1"), 400),
    "authority form for get": (line("GET localhost:80 HTTP/1.1"), 400),
    "unserved scheme": (line("GET ftp://localhost/ HTTP/1.1"), 400),
    "absolute form without an authority": (line("GET http:///a HTTP/1.1"), 400),
    "userinfo in the target": (line("GET http://user:pass@localhost/ HTTP/1.1"), 400),
    "version in small letters": (line("GET / http/1.1"), 400),
    "version without a minor": (line("GET / HTTP/1"), 400),
    "version of two digits": (line("GET / HTTP/1.10"), 400),
    "major of two digits": (line("GET / HTTP/11.1"), 400),
    "letters in the version": (line("GET / HTTP/1.x"), 400),
    "comma in the version": (line("GET / HTTP/1,1"), 400),
    "plus in the version": (line("GET / HTTP/+1.1"), 400),
    "other protocol": (line("GET / RTSP/1.0"), 400),
    "connect": (message("CONNECT localhost:443 HTTP/1.1", HOST), 501),
    "method of 65 letters": (line(f"{'M' * 65} / HTTP/1.1"), 501),
    "http 0.9 spelt out": (line("GET / HTTP/0.9"), 505),
    "http 2.0": (line("GET / HTTP/2.0"), 505),
    "http 3.0": (line("GET / HTTP/3.0"), 505),
    "http 2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "nul after the version": (line("GET / HTTP/1.1\0"), 400),
    "vertical tabs as separators": (line("GET\x0b/\x0bHTTP/1.1"), 400),
    "no-break space as a separator": (line("GET\xa0/ HTTP/1.1"), 400),
    "two versions": (line("GET / HTTP/1.1 HTTP/1.1"), 400),
    "absolute target with backslashes": (line("GET http:\\\\localhost\\ HTTP/1.1"), 400),
    "absolute target with a port too large": (line("GET http://localhost:65536/ HTTP/1.1"), 400),
    "absolute target with two ports": (line("GET http://localhost:80:81/ HTTP/1.1"), 400),
    "authority alone": (line("OPTIONS localhost HTTP/1.1"), 400),
    "header of the proxy protocol, version 1": (
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + line("GET / HTTP/1.1"),
        400,
    ),
    "header of the proxy protocol, version 2": (
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0" + line("GET / HTTP/1.1"),
        400,
    ),
    "two empty lines before": (b"\r\n\r\n" + line("GET / HTTP/1.1"), 400),
    "bare line feed before": (b"\n" + line("GET / HTTP/1.1"), 400),
}

LINE_ENDS: dict[str, Row] = {
    "CVE-2019-16785 bare lf after the request line": (b"GET / HTTP/1.1\nHost: localhost\r\n\r\n", 400),
    "CVE-2019-16785 bare lf after a field": (b"GET / HTTP/1.1\r\nHost: localhost\nX-A: b\r\n\r\n", 400),
    "CVE-2019-16785 bare lf at the end": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\n", 400),
    "nothing but line feeds": (b"GET / HTTP/1.1\nHost: localhost\n\n", 400),
    "bare cr in the request line": (b"GET /\r HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "bare cr after the request line": (b"GET / HTTP/1.1\rHost: localhost\r\n\r\n", 400),
    "two crs": (b"GET / HTTP/1.1\r\r\nHost: localhost\r\n\r\n", 400),
    "line feed and cr": (b"GET / HTTP/1.1\n\rHost: localhost\n\r\n\r", 400),
    "two crs at the end": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\r\n", 400),
    "missing empty line": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", 400),
    "missing line end and empty line": (b"POST / HTTP/1.1\r\nHost: localhost\r\nX-A: b", 400),
    "coding behind a bare lf": (coded("Content-Length: 15", "X-A: b\nTransfer-Encoding: chunked"), 400),
    "coding behind a bare cr": (coded("Content-Length: 15", "X-A: b\rTransfer-Encoding: chunked"), 400),
    "coding before a bare lf": (coded("Content-Length: 15", "Transfer-Encoding: chunked\nX-A: b"), 400),
    "bare cr in a value": (fields("X-A: a\rb"), 400),
    "cr before crlf in a value": (fields("X-A: a\r"), 400),
    "bare cr in a name": (fields("X\r-A: b"), 400),
}

FIELDS: dict[str, Row] = {
    "space before the colon": (fields("X-A : b"), 400),
    "tab before the colon": (fields("X-A\t: b"), 400),
    "space before content-length's colon": (fields("Content-Length : 5"), 400),
    "space before transfer-encoding's colon": (coded("Transfer-Encoding : chunked"), 400),
    "space in a name": (fields("X A: b"), 400),
    "empty name": (fields(": b"), 400),
    "no colon": (fields("X-A"), 400),
    "obsolete fold with a space": (fields("X-A: b", " c"), 400),
    "obsolete fold with a tab": (fields("X-A: b", "\tc"), 400),
    "obsolete fold of nothing": (fields("X-A: b", " "), 400),
    "fold hiding transfer-encoding": (
        fields("Content-Length: 5", "X-A: b", " Transfer-Encoding: chunked"),
        400,
    ),
    "space before the first field": (message("GET / HTTP/1.1", " Host: localhost"), 400),
    "nul in a name": (fields("X\0A: b"), 400),
    "nul in a value": (fields("X-A: a\0b"), 400),
    "escape in a value": (fields("X-A: a\x1bb"), 400),
    "vertical tab in a value": (fields("X-A: \x0bb"), 400),
    "form feed in a value": (fields("X-A: b\x0c"), 400),
    "delete in a value": (fields("X-A: a\x7fb"), 400),
    "two content types": (fields("Content-Type: text/plain", "Content-Type: text/html"), 400),
    "two equal content types": (fields("Content-Type: text/plain", "content-type: text/plain"), 400),
    "non-ascii name": (fields("X-\xe9: b"), 400),
    "delimiter in a name": (fields("X(A): b"), 400),
    "nul before content-length": (fields("\0Content-Length: 5"), 400),
    "vertical tab before transfer-encoding": (coded("\x0bTransfer-Encoding: chunked"), 400),
    "byte order mark before the first field": (message("GET / HTTP/1.1", "\xef\xbb\xbfHost: localhost"), 400),
    "line feed before the colon": (coded("Transfer-Encoding\n: chunked"), 400),
    "fold before the first field": (message("GET / HTTP/1.1", "\tX-A: b", HOST), 400),
    "value that is a fold": (fields("Content-Length:", " 5"), 400),
    "quoted name": (fields('"X-A": b'), 400),
}

HOSTS: dict[str, Row] = {
    "no host": (hosts(), 400),
    "no host with other fields": (hosts("X-Host: localhost"), 400),
    "no host with an absolute target": (message("GET http://localhost/ HTTP/1.1"), 400),
    "two equal hosts": (hosts(HOST, HOST), 400),
    "two different hosts": (hosts(HOST, "host: other"), 400),
    "two hosts in http 1.0": (message("GET / HTTP/1.0", HOST, HOST), 400),
    "space in the host": (hosts("Host: a b"), 400),
    "path in the host": (hosts("Host: a/b"), 400),
    "backslash in the host": (hosts("Host: a\\b"), 400),
    "userinfo in the host": (hosts("Host: a@b"), 400),
    "query in the host": (hosts("Host: a?b"), 400),
    "fragment in the host": (hosts("Host: a#b"), 400),
    "angle brackets in the host": (hosts("Host: <a>"), 400),
    "quote in the host": (hosts('Host: a"b'), 400),
    "port that is no number": (hosts("Host: a:http"), 400),
    "two ports": (hosts("Host: a:80:80"), 400),
    "list of hosts": (hosts("Host: a, b"), 400),
    "host and a fold": (hosts("Host: a", " b"), 400),
    "space before host's colon": (hosts("Host : localhost"), 400),
    "port alone": (hosts("Host: :80"), 400),
    "port too large": (hosts("Host: a:65536"), 400),
    "sign before the port": (hosts("Host: a:+80"), 400),
    "percent without digits in the host": (hosts("Host: a%zz"), 400),
    "zone of an ipv6 address": (hosts("Host: [fe80::1%25eth0]"), 400),
    "open bracket": (hosts("Host: [::1"), 400),
    "text after the bracket": (hosts("Host: [::1]a"), 400),
    "non-ascii host": (hosts("Host: caf\xe9"), 400),
}

CONTENT_LENGTHS: dict[str, Row] = {
    "CVE-2022-24761 plus sign": (fields("Content-Length: +5"), 400),
    "CVE-2022-24761 hexadecimal": (fields("Content-Length: 0x5"), 400),
    "minus sign": (fields("Content-Length: -5"), 400),
    "minus zero": (fields("Content-Length: -0"), 400),
    "CVE-2019-16792 empty": (fields("Content-Length:"), 400),
    "CVE-2019-16792 letters": (fields("Content-Length: five"), 400),
    "CVE-2019-16792 two equal lengths": (fields("Content-Length: 5", "Content-Length: 5"), 400),
    "CVE-2019-16792 two different lengths": (fields("Content-Length: 5", "content-length: 0"), 400),
    "two different lengths the other way": (fields("Content-Length: 0", "Content-Length: 5"), 400),
    "list of equal lengths": (fields("Content-Length: 5, 5"), 400),
    "list of different lengths": (fields("Content-Length: 5,0"), 400),
    "comma at the end": (fields("Content-Length: 5,"), 400),
    "space within": (fields("Content-Length: 5 0"), 400),
    "underscore within": (fields("Content-Length: 1_0"), 400),
    "decimal point": (fields("Content-Length: 5.0"), 400),
    "exponent": (fields("Content-Length: 5e0"), 400),
    "parameter": (fields("Content-Length: 5;q=1"), 400),
    "quoted": (fields('Content-Length: "5"'), 400),
    "CVE-2022-24761 plus sign and zero": (fields("Content-Length: +0"), 400),
    "octal": (fields("Content-Length: 0o5"), 400),
    "letters after": (fields("Content-Length: 5x"), 400),
    "two colons": (fields("Content-Length:: 5"), 400),
    "semicolon list": (fields("Content-Length: 5; 5"), 400),
    "2 to the 32nd and 5": (fields("Content-Length: 4294967301"), 413),
    "superscript digit": (fields("Content-Length: \xb2"), 400),
    "no-break space": (fields("Content-Length: \xa05"), 400),
    "vertical tab before": (fields("Content-Length: \x0b5"), 400),
    "nul after": (fields("Content-Length: 5\0"), 400),
    "2 to the 64th and 5": (fields("Content-Length: 18446744073709551621"), (400, 413)),
    "forty digits": (fields(f"Content-Length: {'9' * 40}"), (400, 413)),
    "more than the default limit": (fields("Content-Length: 1073741825"), 413),
}

TRANSFER_CODINGS: dict[str, Row] = {
    "length and coding": (coded("Content-Length: 15", CHUNKED), 400),
    "coding and length": (coded(CHUNKED, "Content-Length: 15"), 400),
    "coding and a length of zero": (coded(CHUNKED, "Content-Length: 0"), 400),
    "length and an unknown coding": (coded("Content-Length: 15", "Transfer-Encoding: x"), (400, 501)),
    "CVE-2024-1135 chunked twice": (coded(CHUNKED, CHUNKED), 400),
    "CVE-2024-1135 chunked and identity": (coded(CHUNKED, "Transfer-Encoding: identity"), 400),
    "CVE-2024-1135 identity and chunked": (coded("Transfer-Encoding: identity", CHUNKED), 400),
    "CVE-2019-16786 list that ends in chunked": (coded("Transfer-Encoding: gzip, chunked"), 501),
    "CVE-2019-16786 list that begins with chunked": (coded("Transfer-Encoding: chunked, gzip"), (400, 501)),
    "list of chunked twice": (coded("Transfer-Encoding: chunked, chunked"), 400),
    "CVE-2024-6827 unknown coding": (coded("Transfer-Encoding: xchunked"), 501),
    "CVE-2024-6827 identity": (coded("Transfer-Encoding: identity"), 501),
    "length of zero and a coding": (coded("Content-Length: 0", CHUNKED), 400),
    "length, coding, length": (coded("Content-Length: 15", CHUNKED, "Content-Length: 15"), 400),
    "malformed length and a coding": (coded("Content-Length: x", CHUNKED), 400),
    "coding and an unknown one": (coded(CHUNKED, "Transfer-Encoding: cow"), 400),
    "unknown coding and a coding": (coded("Transfer-Encoding: cow", CHUNKED), 400),
    "list that begins with identity": (coded("Transfer-Encoding: identity, chunked"), 501),
    "prefix of chunked": (coded("Transfer-Encoding: chunke"), 501),
    "chunked and a word": (coded("Transfer-Encoding: chunked x"), 400),
    "chunked and a comma within": (coded("Transfer-Encoding: chun,ked"), 501),
    "two colons": (coded("Transfer-Encoding:: chunked"), 400),
    "fold within": (coded("Transfer-Encoding:", " chunked"), 400),
    "fold after": (coded("Transfer-Encoding: chunked", " , gzip"), 400),
    "escape after": (coded("Transfer-Encoding: chunked\x1b"), 400),
    "gzip alone": (coded("Transfer-Encoding: gzip"), 501),
    "CVE-2019-16789 vertical tab before": (coded("Transfer-Encoding: \x0bchunked"), 400),
    "CVE-2019-16789 form feed after": (coded("Transfer-Encoding: chunked\x0c"), 400),
    "CVE-2019-16789 no-break space before": (coded("Transfer-Encoding: \xa0chunked"), (400, 501)),
    "nul after": (coded("Transfer-Encoding: chunked\0"), 400),
    "empty": (coded("Transfer-Encoding:"), 400),
    "parameter": (coded("Transfer-Encoding: chunked;q=1"), 400),
    "quoted": (coded('Transfer-Encoding: "chunked"'), (400, 501)),
    "comma before": (coded("Transfer-Encoding: , chunked"), (400, 501)),
    "comma after": (coded("Transfer-Encoding: chunked,"), (400, 501)),
    "http 1.0": (message("POST / HTTP/1.0", CHUNKED, body=chunked(b"hello")), 400),
}

EXPECTATIONS: dict[str, Row] = {
    "unknown expectation": (fields("Expect: 200-ok", "Content-Length: 5"), 417),
    "list of expectations": (fields("Expect: 100-continue, x", "Content-Length: 5"), 417),
    "two expectations": (fields("Expect: 100-continue", "Expect: x", "Content-Length: 5"), 417),
    "unknown expectation without a body": (message("GET / HTTP/1.1", HOST, "Expect: tea"), 417),
}

CHUNKS: dict[str, Row] = {
    "empty size": (body(b"\r\nhello\r\n0\r\n\r\n"), 400),
    "CVE-2022-24761 plus sign": (body(b"+5\r\nhello\r\n0\r\n\r\n"), 400),
    "CVE-2022-24761 hexadecimal prefix": (body(b"0x5\r\nhello\r\n0\r\n\r\n"), 400),
    "minus sign": (body(b"-5\r\nhello\r\n0\r\n\r\n"), 400),
    "no hexadecimal digit": (body(b"g\r\nhello\r\n0\r\n\r\n"), 400),
    "underscore": (body(b"0_5\r\nhello\r\n0\r\n\r\n"), 400),
    "space before the size": (body(b" 5\r\nhello\r\n0\r\n\r\n"), 400),
    "seventeen digits": (body(b"00000000000000005\r\nhello\r\n0\r\n\r\n"), 400),
    "size that wraps": (body(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), (400, 413)),
    "largest size": (body(b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), (400, 413)),
    "bare lf after the size": (body(b"5\nhello\r\n0\r\n\r\n"), 400),
    "bare cr after the size": (body(b"5\rhello\r\n0\r\n\r\n"), 400),
    "two crs after the size": (body(b"5\r\r\nhello\r\n0\r\n\r\n"), 400),
    "CVE-2022-24761 bare lf in an extension": (body(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), 400),
    "bare cr in an extension": (body(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400),
    "nul in an extension": (body(b"5;a\0\r\nhello\r\n0\r\n\r\n"), 400),
    "plus sign before the last size": (body(b"5\r\nhello\r\n+0\r\n\r\n"), 400),
    "hexadecimal prefix of the last size": (body(b"5\r\nhello\r\n0x0\r\n\r\n"), 400),
    "minus zero": (body(b"5\r\nhello\r\n-0\r\n\r\n"), 400),
    "size that wraps to zero": (body(b"5\r\nhello\r\n10000000000000000\r\n\r\n"), (400, 413)),
    "comma in the size": (body(b"5,5\r\nhello\r\n0\r\n\r\n"), 400),
    "no-break space after the size": (body(b"5\xa0\r\nhello\r\n0\r\n\r\n"), 400),
    "vertical tab after the size": (body(b"5\x0b\r\nhello\r\n0\r\n\r\n"), 400),
    "bare lf that ends an extension": (body(b"5;a\nhello\r\n0\r\n\r\n"), 400),
    "bare lf after a semicolon": (body(b"5;\nhello\r\n0\r\n\r\n"), 400),
    "bare lf in a quoted extension": (body(b'5;a="\n"\r\nhello\r\n0\r\n\r\n'), 400),
    "extension without a name": (body(b"5;\r\nhello\r\n0\r\n\r\n"), 400),
    "extension without a value": (body(b"5;a=\r\nhello\r\n0\r\n\r\n"), 400),
    "text after a quoted extension": (body(b'5;a="b"c\r\nhello\r\n0\r\n\r\n'), 400),
    "space after an extension": (body(b"5;a \r\nhello\r\n0\r\n\r\n"), 400),
    "escaped end of a quote": (body(b'5;a="b\\"\r\nhello\r\n0\r\n\r\n'), 400),
    "open quote in an extension": (body(b'5;a="b\r\nhello\r\n0\r\n\r\n'), 400),
    "two bytes in the place of the end": (body(b"5\r\nhelloXX0\r\n\r\n"), 400),
    "line feed and cr after the data": (body(b"5\r\nhello\n\r0\r\n\r\n"), 400),
    "missing last line end": (body(b"5\r\nhello\r\n0\r\n"), 400),
    "missing last chunk": (body(b"5\r\nhello\r\n"), 400),
    "text after the size": (body(b"5 x\r\nhello\r\n0\r\n\r\n"), 400),
    "more data than the size": (body(b"5\r\nhello!\r\n0\r\n\r\n"), 400),
    "less data than the size": (body(b"6\r\nhello\r\n0\r\n\r\n"), 400),
    "bare lf after the data": (body(b"5\r\nhello\n0\r\n\r\n"), 400),
    "bare cr after the data": (body(b"5\r\nhello\r0\r\n\r\n"), 400),
    "nothing after the data": (body(b"5\r\nhello0\r\n\r\n"), 400),
    "bare lf after the last size": (body(b"5\r\nhello\r\n0\n\r\n"), 400),
    "bare lf at the end": (body(b"5\r\nhello\r\n0\r\n\n"), 400),
    "text after the last chunk": (body(b"5\r\nhello\r\n0\r\nx\r\n\r\n"), 400),
    "trailer with a space before the colon": (body(b"5\r\nhello\r\n0\r\nX-A : b\r\n\r\n"), 400),
    "folded trailer": (body(b"5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n"), 400),
    "trailer ended by a bare lf": (body(b"5\r\nhello\r\n0\r\nX-A: b\n\r\n"), 400),
    "nul in a trailer": (body(b"5\r\nhello\r\n0\r\nX-A: \0\r\n\r\n"), 400),
}

TABLE = {
    f"{table} - {name}": row
    for table, rows in {
        "request line": REQUEST_LINES,
        "line end": LINE_ENDS,
        "field": FIELDS,
        "host": HOSTS,
        "content length": CONTENT_LENGTHS,
        "transfer coding": TRANSFER_CODINGS,
        "expectation": EXPECTATIONS,
        "chunk": CHUNKS,
    }.items()
    for name, row in rows.items()
}
