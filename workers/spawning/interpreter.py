"""How to start this interpreter once more."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn


def command() -> list[str]:
    """Return the words that start this interpreter with the flags that it was started with."""
    # The one function that knows how to spell them is not public, and multiprocessing depends on it as well.
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [sys.executable, *flags]


def hide_arguments() -> None:
    """Show the application the name of the program in ``sys.argv``, and nothing of what the server was told.

    Code that parses a command line when it is imported (argparse, absl, tornado.options) finds nothing
    unknown then.
    """
    sys.argv[:] = ["spawn"]


def become_spawn(words: Sequence[str]) -> NoReturn:
    """Replace this process by ``spawn`` with those words, so that a supervisor holds no code of the user."""
    sys.stdout.flush()
    sys.stderr.flush()
    line = [*command(), "-m", "spawning", *words]
    os.execv(line[0], line)
