"""One application made of many small ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from wsgiref.validate import validator

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PLAIN_TEXT = [("Content-Type", "text/plain")]


class Routes:
    """Calls, for the path `/name`, the application that was registered under its function's name."""

    def __init__(self) -> None:
        self._applications: dict[str, WSGIApplication] = {}

    def legal(self, application: WSGIApplication) -> WSGIApplication:
        """Register an application that keeps PEP 3333: the validator of wsgiref watches both sides."""
        return self._register(application, validator(application))

    def bare(self, application: Callable[..., Any]) -> Callable[..., Any]:
        """Register one as it is: it breaks PEP 3333, or must reach the server unwrapped."""
        return self._register(application, application)

    def _register(self, function: Callable[..., Any], served: WSGIApplication) -> Callable[..., Any]:
        self._applications[f"/{function.__name__}"] = served
        return function

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._applications.get(environ["PATH_INFO"], nothing)(environ, start_response)


def nothing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers for every other path."""
    start_response("404 Not Found", list(PLAIN_TEXT))
    return [b"no such route"]
