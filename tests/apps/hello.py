"""The smallest legal application."""

from __future__ import annotations

from typing import TYPE_CHECKING
from wsgiref.validate import validator

from apps.routes import PLAIN_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment


@validator
def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Greets."""
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"Hello"]
