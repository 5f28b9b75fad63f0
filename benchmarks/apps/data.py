"""Files that the applications read, written once and kept beside this package."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

DIRECTORY = Path(__file__).parent.parent / ".data"


def made_once(name: str, write: Callable[[Path], None]) -> Path:
    """Return the path of the file `name`, written by `write` if nobody has.

    Several workers may start at once, so each writes a file of its own and renames it into place.
    """
    path = DIRECTORY / name
    if not path.exists():
        DIRECTORY.mkdir(exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        write(draft)
        draft.replace(path)
    return path
