"""A browser without a screen: cookies, forms and files, a connection for each request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from server import Response, Server

BOUNDARY = "a-boundary-that-no-part-holds"
REDIRECTS = {301, 302, 303}
REDIRECTS_MAX = 5


@dataclass(frozen=True)
class File:
    """What a form sends of a file."""

    name: str
    kind: str
    data: bytes


Part = str | File


def multipart(parts: Mapping[str, Part]) -> tuple[str, bytes]:
    """The content type and the body of a form with files (RFC 7578)."""
    body = b""
    for name, part in parts.items():
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if isinstance(part, File):
            body += f'; filename="{part.name}"\r\nContent-Type: {part.kind}'.encode()
        body += b"\r\n\r\n" + (part.data if isinstance(part, File) else part.encode()) + b"\r\n"
    return f"multipart/form-data; boundary={BOUNDARY}", body + f"--{BOUNDARY}--\r\n".encode()


class Visitor:
    """Somebody who uses a site."""

    def __init__(self, server: Server, **fields: str) -> None:
        self._server = server
        self._fields = {name.replace("_", "-"): value for name, value in fields.items()}
        self.cookies: dict[str, str] = {}

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        fields: Mapping[str, str] | None = None,
        expected: int | tuple[int, ...] = 200,
    ) -> Response:
        """Send a request, keep the cookies of its response, and return it if its status is as expected."""
        host, port = self._server.address
        head = {"Host": f"{host}:{port}", "Connection": "close", **self._fields, **(fields or {})}
        if body or method in {"POST", "PUT"}:
            head["Content-Length"] = str(len(body))
        if self.cookies:
            head["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        response = self._server.request("\r\n".join(lines).encode("latin-1") + body)
        for cookie in response.header_all("Set-Cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        wanted = (expected,) if isinstance(expected, int) else expected
        assert response.status in wanted, f"{method} {path}: {response.status}\n{response.body[:2000]!r}"
        return response

    def read(self, path: str, **fields: str) -> str:
        """GET, wherever redirections lead."""
        for _ in range(REDIRECTS_MAX):
            response = self.ask("GET", path, fields=fields, expected=(200, *REDIRECTS))
            if response.status not in REDIRECTS:
                return response.body.decode()
            parts = urlsplit(response.header("Location") or "")
            path = parts.path + (f"?{parts.query}" if parts.query else "")
        raise AssertionError(f"{path}: too many redirections")

    def field(self, path: str, name: str) -> str:
        """The value of a hidden field in the form of a page."""
        page = self.read(path)
        for tag in re.findall(r"<input[^>]*>", page):
            if f'name="{name}"' in tag:
                return str(re.findall(r'value="([^"]*)"', tag)[0])
        raise AssertionError(f"no {name} in {path}:\n{page[:2000]}")

    def send(self, path: str, form: Mapping[str, Part], fields: Mapping[str, str] | None = None) -> Response:
        """POST a form; what answers it is a page or a redirection."""
        if any(isinstance(part, File) for part in form.values()):
            kind, body = multipart(form)
        else:
            kind, body = "application/x-www-form-urlencoded", urlencode(form).encode()
        return self.ask("POST", path, body, {"Content-Type": kind, **(fields or {})}, (200, *REDIRECTS))

    def call(
        self,
        method: str,
        path: str,
        value: Any = None,
        fields: Mapping[str, str] | None = None,
        expected: int | tuple[int, ...] = (200, 201),
    ) -> Any:
        """Send a value as JSON, and return the one that answers it."""
        body = b"" if value is None else json.dumps(value).encode()
        kind = {"Content-Type": "application/json", "Accept": "application/json", **(fields or {})}
        return json.loads(self.ask(method, path, body, kind, expected).body)
