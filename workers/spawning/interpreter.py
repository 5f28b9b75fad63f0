"""How to start this interpreter once more."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

# Runs the module named after the entries of the path, which a fresh interpreter would not find.
BUNDLED = """\
import runpy, sys
count = int(sys.argv[1])
sys.path[:] = sys.argv[2 : 2 + count]
sys.argv[:] = sys.argv[3 + count :]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def command() -> list[str]:
    """Return the words that start this interpreter with the flags that it was started with.

    ``-m`` and the name of a module are to follow, and in a bundle (zipapp, shiv, pex) find what this process
    finds.
    """
    # The one function that knows how to spell them is not public, and multiprocessing depends on it as well.
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    if not _is_bundle():
        return [sys.executable, *flags]
    path = [str(Path(entry).resolve()) for entry in sys.path]
    return [sys.executable, *flags, "-c", BUNDLED, str(len(path)), *path]


def _is_bundle() -> bool:
    """Whether Python was given a directory or an archive to run, whose ``__main__`` became this process."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == "__main__"


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
