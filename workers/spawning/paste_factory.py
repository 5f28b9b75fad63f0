"""Serves what a Paste ini file describes, from ``spawn`` or from ``pserve``.

``spawn --factory=spawning.paste_factory.config_factory development.ini key=value``, or ``use = egg:Spawning``
in the section ``[server:main]`` of the file that ``pserve`` is given.
"""

import configparser
import logging.config
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from spawning import interpreter
from spawning.importer import LoadError, application_traceback, describe

FACTORY = "spawning.paste_factory.config_factory"

# What Spawning 0.9 called options of the command line in an ini file.
OPTION_NAMES = {"num_processes": "processes", "threadpool_workers": "threads"}

# Options that a section of another server gives the same meaning.
COMMON_OPTIONS = ("host", "port")

# Keys of a configuration that no ini file may set.
RESERVED = ("args", "app_factory", "origin", "warnings")

TRUE = ("true", "yes", "on")
FALSE = ("false", "no", "off")


class Description(NamedTuple):
    """Which application of which file, and the variables that the file may refer to."""

    path: Path
    app_name: str | None
    variables: dict[str, str]


def config_factory(args: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration that the ini file ``args["args"]`` names describes.

    Of its ``[server:main]`` every option counts, if that is a section for this server. The file is watched,
    and with ``debug = true`` the code is, too.
    """
    description = _description(args["args"])
    path = description.path
    defaults, server = _server_settings(description)
    debug = server.pop("debug", defaults.get("debug", "false"))
    return {
        **args,
        **{key: _number_or_text(value) for key, value in server.items() if key not in RESERVED},
        "app_factory": "spawning.paste_factory.app_factory",
        "origin": f"{path.name} [server:main]",
        "dev": args.get("dev", False) or debug.lower() in TRUE,
        "watch": [*args.get("watch", ()), str(path)],
        "source_directories": [*args.get("source_directories", ()), str(path.parent)],
    }


def app_factory(config: dict[str, Any]) -> Any:
    """Return the application of the ini file, with its logging set up as ``pserve`` does."""
    path, app_name, variables = _description(config["args"])
    loadwsgi = _loadwsgi()
    try:
        _set_up_logging(path, variables)
        return loadwsgi.loadapp(_uri(path), name=app_name, global_conf=variables)
    except BaseException as error:
        summary = f"the application of {path.name!r} cannot be loaded: {describe(error)}"
        raise LoadError(summary, application_traceback(error)) from error


def server_factory(global_conf: Mapping[str, str], **settings: str) -> Callable[[Any], NoReturn]:
    """Return what runs a server for ``pserve`` (``paste.server_factory``, entry point ``egg:Spawning``)."""
    path = Path(global_conf["__file__"])
    own = _loadwsgi().ConfigLoader(str(path)).parser.defaults()
    variables = [f"{key}={value}" for key, value in global_conf.items() if own.get(key) != value]
    words = [f"--factory={FACTORY}", *_words(settings), "--", str(path), *variables]

    def serve(application: Any) -> NoReturn:
        # The application stays behind with this process: each generation of workers loads its own.
        interpreter.become_spawn(words)

    return serve


def _words(settings: Mapping[str, str]) -> Iterable[str]:
    for key, value in settings.items():
        option = "--" + OPTION_NAMES.get(key, key).replace("_", "-")
        if value.lower() in TRUE:
            yield option
        elif value.lower() not in FALSE:
            yield f"{option}={value}"


def _description(arguments: list[str]) -> Description:
    name, *assignments = arguments
    file_name, _, app_name = name.removeprefix("config:").partition("#")
    path = Path(file_name).absolute()
    if not path.is_file():
        raise LoadError(f"there is no file {file_name!r}: name an ini file, for example development.ini")
    wrong = [word for word in assignments if "=" not in word]
    if wrong:
        raise LoadError(f"{wrong[0]!r} is no variable: write key=value behind the ini file")
    variables = dict(word.split("=", 1) for word in assignments)
    return Description(path, app_name or None, variables)


def _server_settings(description: Description) -> tuple[dict[str, str], dict[str, str]]:
    """Return the defaults of the ini file, and what this server understands of its ``[server:main]``."""
    path, _, variables = description
    loadwsgi = _loadwsgi()
    try:
        defaults = {**loadwsgi.ConfigLoader(str(path)).parser.defaults(), **variables}
    except (configparser.Error, UnicodeDecodeError) as error:
        raise LoadError(f"{path.name!r} cannot be read: {describe(error)}") from error
    try:
        context = loadwsgi.loadcontext(loadwsgi.SERVER, _uri(path), name="main", global_conf=variables)
    except (LookupError, ImportError):
        # No such section, or one for a server that is not installed.
        return defaults, {}
    settings = dict(context.local_conf)
    if context.object is not server_factory:
        settings = {key: value for key, value in settings.items() if key in COMMON_OPTIONS}
    # A section may override a default: `set debug = false`.
    return dict(context.global_conf), settings


def _set_up_logging(path: Path, variables: dict[str, str]) -> None:
    parser = configparser.RawConfigParser()
    parser.read(path)
    if parser.has_section("loggers"):
        defaults = {"__file__": str(path), "here": str(path.parent), **variables}
        logging.config.fileConfig(str(path), defaults, disable_existing_loggers=False)


def _loadwsgi() -> Any:
    try:
        from paste.deploy import loadwsgi
    except ImportError as error:
        summary = "ini files need PasteDeploy, which is not installed here: pip install PasteDeploy"
        raise LoadError(summary, application_traceback(error)) from error
    return loadwsgi


def _uri(path: Path) -> str:
    return "config:" + urllib.parse.quote(str(path))


def _number_or_text(value: str) -> int | str:
    return int(value) if value.isascii() and value.isdigit() else value
