"""What coverage is to find: one function that is asked for and one that never is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    text = called() if environ["PATH_INFO"] == "/called" else str(os.getpid())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]


def called() -> str:
    return "called"


def never_called() -> str:
    return "never"
