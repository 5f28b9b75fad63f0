"""Numbers the requests it is called for, says so in each response, and remembers them: what a proxy in front
has made of what its client sent."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

lock = threading.Lock()
seen: list[dict[str, str]] = []

#: Of an environ what a test may want to know.
TOLD = ("REMOTE_ADDR", "REMOTE_PORT", "wsgi.url_scheme", "HTTP_HOST", "SERVER_NAME", "SERVER_PORT")


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers with what it was asked, as JSON, as the query wants it; `/seen` tells all that was asked."""
    if environ["PATH_INFO"] == "/seen":
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(seen).encode()]
    request = {
        "method": environ["REQUEST_METHOD"],
        "target": environ["RAW_URI"],
        "body": environ["wsgi.input"].read().decode("latin-1"),
        **{key: environ[key] for key in TOLD if key in environ},
    }
    with lock:
        seen.append(request)
        number = len(seen) - 1
    wanted = parse_qs(environ["QUERY_STRING"], encoding="latin-1").get("answer", [""])[0]
    fields = [("Content-Type", "application/json"), ("X-Request-Number", str(number))]
    if wanted in ("204", "304"):
        start_response(f"{wanted} Whatever", fields)
        return []
    body = json.dumps({"number": number, **request}).encode()
    if wanted == "streamed":
        start_response("200 OK", fields)
        return streamed(body)
    start_response("200 OK", [*fields, ("Content-Length", str(len(body)))])
    return [body]


def streamed(body: bytes) -> Iterator[bytes]:
    """A body whose length only its end tells."""
    for start in range(0, len(body), 50):
        yield body[start : start + 50]
