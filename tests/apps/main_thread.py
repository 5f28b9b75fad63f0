"""What Python allows on the main thread only, or on the thread that made it."""

import asyncio
import signal
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

warnings.simplefilter("ignore")
database = sqlite3.connect(":memory:")
seen: list[int] = []


def view(path: str) -> str:
    if path == "/sqlite":
        return str(database.execute("select 42").fetchone()[0])
    if path == "/signal":
        signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
        return "set"
    if path == "/alarm":
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        time.sleep(0.5)
        return str(len(seen))
    if path == "/later":
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        return "later"
    if path == "/loop":
        return str(asyncio.get_event_loop().run_until_complete(asyncio.sleep(0, 42)))
    if path == "/slow":
        time.sleep(1)
    if path == "/stop":
        breakpoint()
    return str(threading.current_thread() is threading.main_thread()) + f" {len(seen)}"


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    answer = view(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
