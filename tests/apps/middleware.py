"""Middleware for the command line, and an application written to be called through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.routes import PLAIN_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Tells through what it was called."""
    start_response("200 OK", list(PLAIN_TEXT))
    return [environ.get("test.through", "nothing").encode()]


def noting(name: str, application: WSGIApplication) -> WSGIApplication:
    """Calls `application` after it has added its name to what was passed before."""

    def called(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["test.through"] = f"{environ.get('test.through', '')}{name} "
        return application(environ, start_response)

    return called


def first(application: WSGIApplication) -> WSGIApplication:
    """The one that is named first."""
    return noting("first", application)


def second(application: WSGIApplication) -> WSGIApplication:
    """The one that is named second, so that it wraps the first."""
    return noting("second", application)
