"""Where an application is mounted, loaded from, and run."""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer with what the request was split into."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode("latin-1")]


def place(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer with the working directory, the first entries of the path, and the thread."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["\n".join([os.getcwd(), *sys.path[:3], threading.current_thread().name]).encode()]  # noqa: PTH109
