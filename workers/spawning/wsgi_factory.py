"""The default factory: an application by its dotted path, and middleware around it."""

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from spawning import wsgi_callable
from spawning.importer import LoadError, application_traceback, describe, import_or_call

# What a module may call its application: Django's name first, then everybody else's.
APPLICATION_NAMES = ("application", "app")
# What a module may call the function that makes its application.
FACTORY_NAMES = (
    "create_app",
    "make_app",
    "create_application",
    "make_application",
    "get_application",
    "get_app",
)


def config_factory(args: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration for the application and middleware that ``args["args"]`` names."""
    return {**args, "app_factory": "spawning.wsgi_factory.app_factory"}


def app_factory(config: dict[str, Any]) -> Any:
    """Return the application, wrapped in each middleware in the order given: ``app = middleware(app)``."""
    path, *middleware_paths = config["args"]
    application = import_or_call(path)
    if isinstance(application, ModuleType):
        application = _application_of(application)
    # Middleware may make a WSGI application of an ASGI one; whatever comes out is looked at by the loader.
    if not callable(application) or not (middleware_paths and wsgi_callable.is_asgi(application)):
        _must_be_wsgi(application, path)
    return wrap(application, middleware_paths)


def wrap(application: Any, middleware_paths: Iterable[str]) -> Any:
    """Return the application, wrapped in each middleware named, in the order given.

    Raises :class:`spawning.importer.LoadError`.
    """
    for path in middleware_paths:
        middleware = import_or_call(path)
        _must_be_callable(middleware, path)
        try:
            application = middleware(application)
        except BaseException as error:
            summary = f"the middleware {path!r} raised: {describe(error)}"
            raise LoadError(summary, application_traceback(error)) from error
        _must_be_wsgi(application, f"{path}(...)")
    return application


def _application_of(module: ModuleType) -> Any:
    for name in APPLICATION_NAMES:
        if hasattr(module, name):
            return getattr(module, name)
    wanted = " nor ".join(repr(name) for name in APPLICATION_NAMES)
    factory = next((name for name in FACTORY_NAMES if callable(getattr(module, name, None))), None)
    advice = "name what it calls its application"
    if factory:
        advice = f"to call its factory write '{module.__name__}:{factory}()', in quotes"
    raise LoadError(f"the module {module.__name__!r} has neither {wanted}: {advice}")


def _must_be_wsgi(candidate: Any, path: str) -> None:
    if fault := wsgi_callable.fault(candidate, path):
        raise LoadError(fault)


def _must_be_callable(candidate: Any, path: str) -> None:
    if not callable(candidate):
        raise LoadError(f"{path!r} is not callable: it is {type(candidate).__name__!r}")
