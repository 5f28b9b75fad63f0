"""Serves a Django project by the dotted path of its settings module, middleware after it.

``spawn --factory=spawning.django_factory.config_factory mysite.settings``
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

from spawning.importer import LoadError, application_traceback, describe
from spawning.wsgi_factory import wrap

# Modules beside the settings that are named in their place by mistake.
SERVED_BY_THEMSELVES = ("wsgi", "asgi")
# What django-admin startproject begins a key with, and django.core.security wants of one.
INSECURE_KEY_PREFIX = "django-insecure-"
KEY_CHARACTERS_MIN = 50


def config_factory(args: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration for the Django project whose settings module ``args["args"]`` names."""
    # Django's own variable counts where nothing is named.
    words = args["args"] or [os.environ["DJANGO_SETTINGS_MODULE"]]
    module = words[0]
    settings = _settings(module)
    return {
        **args,
        "args": words,
        "app_factory": "spawning.django_factory.app_factory",
        "django_settings_module": module,
        "source_directories": [*args.get("source_directories", ()), _directory(module)],
        "warnings": [f"{module}: {warning}" for warning in _unsafe(settings)],
    }


def app_factory(config: dict[str, Any]) -> Any:
    """Return the project's application, as ``manage.py runserver`` would serve it, static files included."""
    settings = _settings(config["django_settings_module"])
    from django.core.servers.basehttp import get_internal_wsgi_application

    application: Any = get_internal_wsgi_application()
    if settings.DEBUG and "django.contrib.staticfiles" in settings.INSTALLED_APPS:
        from django.contrib.staticfiles.handlers import StaticFilesHandler

        application = StaticFilesHandler(application)
    return wrap(application, config["args"][1:])


def _settings(module: str) -> Any:
    """Return the settings of Django, which has them from ``module`` from now on."""
    if module.rpartition(".")[2] in SERVED_BY_THEMSELVES:
        raise LoadError(
            f"{module!r} is the project's application, and the Django factory takes its settings module: "
            f"write spawn {module.replace('asgi', 'wsgi')}, or name the settings"
        )
    os.environ["DJANGO_SETTINGS_MODULE"] = module
    try:
        from django.conf import settings
    except ImportError as error:
        summary = "cannot import Django: is it installed, and this virtualenv the right one?"
        raise LoadError(summary, application_traceback(error)) from error
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name + "."):
            raise
        found = False
    if not found:
        raise LoadError(
            f"cannot import {module!r}: there is no such settings module "
            f"in the working directory {Path.cwd()!s} or on sys.path"
        )
    try:
        # The first look loads the module. This one also finds out whether there is a key.
        settings.SECRET_KEY  # noqa: B018
    except BaseException as error:
        summary = f"the settings {module!r} cannot be loaded: {describe(error)}"
        raise LoadError(summary, application_traceback(error)) from error
    return settings


def _directory(module: str) -> str:
    """Return the directory that holds the settings module."""
    spec = importlib.util.find_spec(module)
    return str(Path(spec.origin).parent) if spec is not None and spec.origin is not None else str(Path.cwd())


def _unsafe(settings: Any) -> list[str]:
    """Return a line for each setting that is good for development alone."""
    found = []
    if settings.DEBUG:
        found.append("DEBUG is on, which shows source code and settings to anybody who causes an error")
    if "*" in settings.ALLOWED_HOSTS:
        found.append("ALLOWED_HOSTS allows every host, so that links in mails can be forged")
    key = str(settings.SECRET_KEY)
    if key.startswith(INSECURE_KEY_PREFIX):
        found.append(
            f"SECRET_KEY is one that startproject made ({INSECURE_KEY_PREFIX}...), "
            "set one that is in no repository"
        )
    elif len(key) < KEY_CHARACTERS_MIN:
        found.append(f"SECRET_KEY has {len(key)} characters, at least {KEY_CHARACTERS_MIN} are safe")
    return found
