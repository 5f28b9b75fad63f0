"""Loads the application of a worker: factory, configuration, application, middleware."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from spawning import green, wsgi_callable
from spawning.importer import LoadError, application_traceback, describe, import_object
from spawning.sysinfo import Sysinfo


def load(
    factory: str, options: dict[str, Any], slot: int = 0, directory: str | None = None
) -> Callable[..., Any]:
    """Return the WSGI application that the config factory named ``factory`` makes of ``options``.

    ``slot`` is this worker's; ``directory`` is private to the workers of this server, if they need one.
    Raises :class:`spawning.importer.LoadError`.
    """
    # What the command line says, whatever the factory makes of it.
    sysinfo, backdoor = bool(options.get("sysinfo")), bool(options.get("backdoor"))
    prepare(options)
    measurement = None
    if options.get("coverage") and directory:
        from spawning import coverage

        measurement = coverage.start(directory, options.get("green"))
    application = make_application(factory, configure(factory, options))
    green.check(options.get("green"))
    if backdoor and directory:
        # Only now: its threads are green where all are.
        from spawning.backdoor import start

        start(directory, slot, application)
    if measurement is not None:
        application = measurement.middleware(application)
    return Sysinfo(application) if sysinfo else application


def prepare(options: dict[str, Any]) -> None:
    """Do what must precede any code of the user's, which may keep what is not patched yet."""
    if library := options.get("green"):
        green.patch(library)


def configure(factory: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration that the config factory named ``factory`` makes of ``options``.

    Raises :class:`spawning.importer.LoadError`.
    """
    extend_import_path(options.get("python_path", ()))
    config = _call(import_object(factory), options, f"the config factory {factory!r}")
    if not isinstance(config, dict) or "app_factory" not in config:
        raise LoadError(f"the config factory {factory!r} must return a dict with the key 'app_factory'")
    return config


def extend_import_path(python_path: Iterable[str]) -> None:
    """Put the working directory first on ``sys.path``, and what the command line names before it.

    Links are followed now: a module imported later, when they lead elsewhere, is of the same release.
    """
    first = [*(str(Path(path).resolve()) for path in python_path), str(Path.cwd())]
    sys.path[:] = first + [path for path in sys.path if path not in first]


def make_application(factory: str, config: dict[str, Any]) -> Callable[..., Any]:
    """Return the WSGI application of a configuration that the config factory named ``factory`` returned.

    Raises :class:`spawning.importer.LoadError`.
    """
    app_factory = config["app_factory"]
    name = f"the app factory {app_factory!r} of {factory!r}"
    if isinstance(app_factory, str):
        app_factory = import_object(app_factory)
    application = _call(app_factory, config, name)
    if fault := wsgi_callable.fault(application, _name(config)):
        raise LoadError(fault)
    return application  # type: ignore[no-any-return]


def _call(factory: Any, argument: dict[str, Any], name: str) -> Any:
    if not callable(factory):
        raise LoadError(f"{name} is not callable: it is {type(factory).__name__!r}")
    try:
        return factory(argument)
    except LoadError:
        raise
    except BaseException as error:
        raise LoadError(f"{name} raised: {describe(error)}", application_traceback(error)) from error


def _name(config: dict[str, Any]) -> str:
    arguments = config.get("args") or []
    return str(arguments[0]) if arguments else "the application"
