"""Callables that make an application, that are one, and that only seem to be one."""

import functools
import sys
from collections.abc import Callable, Iterable
from typing import Any

WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def create_app() -> WsgiApplication:
    return create_named()


def create_named(name: str = "made", *, times: int = 1) -> WsgiApplication:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [(name * times).encode()]

    return app


def create_configured(config: object = None, testing: bool = False) -> WsgiApplication:
    return create_named(f"{config} {testing}")


def create_with(settings: object) -> WsgiApplication:
    return create_named(str(settings))


async def create_async() -> WsgiApplication:
    return create_named()


def returns_nothing() -> None:
    pass


def raises() -> None:
    raise RuntimeError("no such database")


application = create_app()


class Instance:
    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [b"instance"]


class Response:
    """The class itself is the application, as PEP 3333 allows."""

    def __init__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> None:
        self._start_response = start_response

    def __iter__(self) -> Any:
        self._start_response("200 OK", [])
        yield b"class"


instance = Instance()
method = instance.__call__
partial = functools.partial(lambda _, environ, start_response: instance(environ, start_response), None)


def view(request: object) -> None:
    """What decorators such as werkzeug's make an application of."""


@functools.wraps(view)
def decorated(*arguments: Any) -> list[bytes]:
    return instance(*arguments)


def optional(environ: Any = None, start_response: Any = None) -> list[bytes]:
    return instance(environ, start_response)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    pass


class Asgi:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        pass


asgi_instance = Asgi()
asgi_method = asgi_instance.__call__
asgi_partial = functools.partial(asgi)


class AsgiTwo:
    def __init__(self, scope: Any) -> None:
        pass

    async def __call__(self, receive: Any, send: Any) -> None:
        pass


def asgi_two(scope: Any) -> Any:
    return AsgiTwo(scope)


def asgi_plain(scope: Any, receive: Any, send: Any) -> Any:
    return asgi(scope, receive, send)


async def asgi_two_words(environ: Any, start_response: Any) -> list[bytes]:
    return []


async def asgi_generator(environ: Any, start_response: Any) -> Any:
    yield b""


def create_asgi() -> Any:
    return asgi_instance


def wsgi_of(application: Any) -> WsgiApplication:
    """Stands for a2wsgi.ASGIMiddleware."""
    return create_named(type(application).__name__)


arguments_at_import = list(sys.argv)


def arguments(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [])
    return [repr(arguments_at_import).encode()]
