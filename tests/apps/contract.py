"""Tells what a test of the old contract asks by the path."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/threads":
        return threads()
    facts = {
        "pid": os.getpid(),
        "path": sys.path,
        "cwd": os.getcwd(),  # noqa: PTH109 (as the module knows it)
        "multithread": environ["wsgi.multithread"],
        "multiprocess": environ["wsgi.multiprocess"],
    }
    return [json.dumps(facts).encode()]


def threads() -> Iterable[bytes]:
    """The thread that asks for each piece."""
    for _ in range(50):
        yield f"{threading.get_ident()}\n".encode()
