"""From dotted paths to the objects they name, with a message of its own for each way that can fail."""

import ast
import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any

PACKAGE = os.path.join(os.path.dirname(__file__), "")  # noqa: PTH118, PTH120 (compared with names of files)


class LoadError(Exception):
    """Something could not be loaded.

    ``summary`` says what in one line; ``traceback`` is the application's own, empty where it has none.
    """

    def __init__(self, summary: str, traceback: str = "") -> None:
        """Say what could not be loaded."""
        super().__init__(summary)
        self.summary = summary
        self.traceback = traceback


def import_object(path: str) -> Any:
    """Return what ``package.module.attribute`` or ``package.module:attribute.attribute`` names.

    Raises :class:`LoadError` when a module is missing, raises on import, or has no such attribute.
    """
    if ":" in path:
        module_name, _, attributes = path.partition(":")
        return _attribute(_import_module(module_name, path), module_name, attributes, path)
    # Without a colon the longest prefix that is a module counts, so that `pkg.module.Class.method` works too.
    names = path.split(".")
    for length in range(len(names), 0, -1):
        module_name, attributes = ".".join(names[:length]), ".".join(names[length:])
        try:
            module = _import_module(module_name, path)
        except _ModuleMissing:
            if length == 1:
                raise
            continue
        return _attribute(module, module_name, attributes, path) if attributes else module
    raise LoadError(f"{path!r} names nothing")


def import_or_call(path: str) -> Any:
    """Return what ``path`` names, or what a call such as ``package.module:create_app("blue")`` returns.

    Arguments are literals of Python. Raises :class:`LoadError`.
    """
    name, bracket, _ = path.partition("(")
    if not bracket:
        return import_object(path)
    arguments, keywords = _literals(path, path[len(name) :])
    function = import_object(name)
    if not callable(function):
        raise LoadError(f"{name!r} is not callable: it is {type(function).__name__!r}")
    try:
        return function(*arguments, **keywords)
    except BaseException as error:
        raise _failure(f"{path!r} raised: {describe(error)}", error) from error


def _literals(path: str, brackets: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call that is written as ``("blue", debug=True)``."""
    try:
        call = ast.parse("_" + brackets, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise SyntaxError("not one call")
        arguments = [ast.literal_eval(argument) for argument in call.args]
        keywords = {
            str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg
        }
        if len(keywords) < len(call.keywords):
            raise ValueError("** is no literal")
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise LoadError(
            f"{path!r} is not a call with literal arguments, "
            "such as 'package.module:create_app(\"blue\", debug=True)'"
        ) from None
    return arguments, keywords


class _ModuleMissing(LoadError):
    """The module itself, not one that it imports, does not exist."""


def _import_module(name: str, path: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that exists but imports one that does not is the application's error, with its traceback.
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise _ModuleMissing(
                f"cannot import {path!r}: there is no module named {error.name!r} "
                f"in the working directory {_working_directory()!r} or on sys.path{_too_high(error.name)}"
            ) from None
        missing = f"it imports {error.name!r}, which does not exist" if error.name else describe(error)
        raise _failure(f"cannot import {path!r}: {missing}", error) from error
    except BaseException as error:
        raise _failure(f"cannot import {path!r}: {describe(error)}", error) from error


def _too_high(missing: str) -> str:
    """Return what to do if a module would be found from a directory below the working directory.

    That is a directory of the package's name, which Python takes for a namespace package (PEP 420).
    """
    package, _, _ = missing.partition(".")
    module = sys.modules.get(package)
    if module is None or getattr(module, "__file__", None) is not None:
        return ""
    for directory in map(Path, getattr(module, "__path__", ())):
        if (directory / package / "__init__.py").exists() or (
            directory / f"{missing.replace('.', '/')}.py"
        ).exists():
            return f"; the working directory is one too high: write --chdir {directory}"
    return f"; {package!r} is a directory without __init__.py: is the working directory the right one?"


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return os.environ.get("PWD", "which was removed")


def _attribute(module: Any, module_name: str, attributes: str, path: str) -> Any:
    found = module
    for name in attributes.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            hint = _too_high(f"{module_name}.{name}")
            raise LoadError(
                f"cannot load {path!r}: {module_name!r} has no attribute {name!r}{hint}"
            ) from None
    return found


def describe(error: BaseException) -> str:
    """Return one line: the type of an exception and what it says."""
    return traceback.format_exception_only(error)[-1].strip()


def _failure(summary: str, error: BaseException) -> LoadError:
    return LoadError(summary, application_traceback(error))


def application_traceback(error: BaseException) -> str:
    """Return the traceback of an error without the frames of the import machinery and of this package."""
    summary = traceback.TracebackException.from_exception(error)
    kept = [frame for frame in summary.stack if not _is_ours(frame.filename)]
    if kept:
        summary.stack = traceback.StackSummary.from_list(kept)
    return "".join(summary.format()).rstrip()


def _is_ours(filename: str) -> bool:
    return filename.startswith((PACKAGE, "<frozen importlib")) or filename == importlib.__file__
