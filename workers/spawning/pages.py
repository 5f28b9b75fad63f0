"""What the server itself answers, under paths that begin with an underscore."""

from collections.abc import Callable, Iterable
from typing import Any


def answer(
    environ: dict[str, Any], start_response: Callable[..., Any], content_type: str, body: Callable[[], bytes]
) -> Iterable[bytes]:
    """Serve one request (PEP 3333) with what ``body`` returns, if it is one that only reads."""
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Length", "0")])
        return []
    data = body()
    headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(data))),
        ("Cache-Control", "no-store"),
    ]
    start_response("200 OK", headers)
    return [data]
