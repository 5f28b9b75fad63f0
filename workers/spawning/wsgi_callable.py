"""Whether a callable can be a WSGI application, and what it is likely to be where it cannot.

A factory that was not called and an ASGI application are callable too: served, they would answer 500 to every
request.
"""

import inspect
from typing import Any

# What an ASGI application calls its first argument (asgiref's specification); WSGI's is the environment.
ASGI_ARGUMENT = "scope"
ENVIRON_PREFIXES = ("env", "_env")

ASGI_ADVICE = (
    "name the WSGI application (Django has mysite.wsgi beside mysite.asgi), "
    "or wrap it: spawn {path} a2wsgi.ASGIMiddleware"
)


def fault(candidate: Any, path: str) -> str | None:
    """Return why ``candidate``, which ``path`` names, can be no WSGI application; ``None`` if it can."""
    if not callable(candidate):
        return _not_callable(candidate, path)
    if is_asgi(candidate):
        return f"{path!r} is an ASGI (async) application, and this is a WSGI server: " + ASGI_ADVICE.format(
            path=path
        )
    return factory_fault(candidate, path)


def is_asgi(candidate: Any) -> bool:
    """Whether a callable is an ASGI application of version 3 or 2, or anything else that is ``async``."""
    parts = [
        candidate,
        getattr(candidate, "func", None),
        inspect.getattr_static(_class_of(candidate), "__call__", None),
    ]
    if any(inspect.iscoroutinefunction(part) or inspect.isasyncgenfunction(part) for part in parts):
        return True
    signature = signature_of(candidate)
    names = list(signature.parameters) if signature is not None else []
    return names[:1] == [ASGI_ARGUMENT] or names[1:3] == ["receive", "send"]


def factory_fault(candidate: Any, path: str) -> str | None:
    """Return what is wrong with a callable that does not take the two arguments of PEP 3333."""
    signature = signature_of(candidate)
    if signature is None or (_accepts(signature, 2) and not _looks_like_factory(candidate, signature)):
        return None
    what = "class" if inspect.isclass(candidate) else "factory"
    if _accepts(signature, 0):
        return (
            f"{path!r} cannot be called with the two arguments of a WSGI application; "
            f"if it is a {what} that makes one, write its call in quotes: '{path}()'"
        )
    return (
        f"{path!r} cannot be called with the two arguments of a WSGI application (environ, start_response), "
        f"it takes {signature}; if it is a {what} that makes one, write its call with literal arguments, "
        f"in quotes: '{path}(...)'"
    )


def signature_of(candidate: Any) -> inspect.Signature | None:
    """Return what a callable really takes, whatever it wraps; ``None`` where that cannot be told."""
    try:
        # A decorator such as werkzeug's Request.application takes two arguments for a function of one.
        return inspect.signature(candidate, follow_wrapped=False)
    except (TypeError, ValueError):
        return None


def _not_callable(candidate: Any, path: str) -> str:
    if inspect.iscoroutine(candidate):
        candidate.close()
        return (
            f"{path!r} is async and returns a coroutine: a WSGI application is made by an ordinary function"
        )
    return f"{path!r} is not callable: it is {type(candidate).__name__!r}"


def _class_of(candidate: Any) -> Any:
    return candidate if inspect.isclass(candidate) else type(candidate)


def _accepts(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _looks_like_factory(candidate: Any, signature: inspect.Signature) -> bool:
    """Whether a function needs no argument and its first one is not named for the environment."""
    first = next(iter(signature.parameters.values()), None)
    return (
        inspect.isroutine(candidate)
        and first is not None
        and first.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        and first.default is not inspect.Parameter.empty
        and not first.name.startswith(ENVIRON_PREFIXES)
    )
