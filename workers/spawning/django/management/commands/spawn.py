"""``manage.py spawn``: the command ``spawn`` for the project at hand, with the same options."""

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from spawning import interpreter

FACTORY = "spawning.django_factory.config_factory"

# Options of manage.py itself, which has read them before it looks for a command.
DJANGO_OPTIONS = ("--settings", "--pythonpath")


class Command(BaseCommand):
    """Becomes ``spawn`` with the Django factory and the settings of this project."""

    help = "Serves this project with Spawning; takes the options of the command spawn, and middleware."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Pass the options on as they are: they are not for Django's parser."""
        self.handle(*argv[2:])

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """Print the help of ``spawn``."""
        self.handle("--help")

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whatever ``call_command`` is given."""
        parser.add_argument("words", nargs="*")

    def handle(self, *words: str, **options: Any) -> None:
        """Become the server."""
        # A module is looked for beside manage.py first, wherever the server is started.
        paths = [str(Path(sys.argv[0]).resolve().parent), os.environ.get("PYTHONPATH", "")]
        paths[:0] = _values(words, "--pythonpath")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        settings = os.environ["DJANGO_SETTINGS_MODULE"]
        interpreter.become_spawn([f"--factory={FACTORY}", settings, *_for_spawn(words)])


def _for_spawn(words: Sequence[str]) -> Iterator[str]:
    rest = iter(words)
    for word in rest:
        if word in DJANGO_OPTIONS:
            next(rest, None)
        elif not word.startswith(tuple(f"{option}=" for option in DJANGO_OPTIONS)):
            yield word


def _values(words: Sequence[str], option: str) -> list[str]:
    attached = [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
    return attached + [value for word, value in itertools.pairwise(words) if word == option]
