"""The ceiling: call a WSGI application in a loop, with no socket and no HTTP around it.

Does what PEP 3333 makes any server do for a request, and nothing else: a fresh environ and input, a
`start_response`, the iterable consumed and closed. No server on this Python can be faster.

Run as `python -m benchmarks.bare_loop benchmarks.apps.hello:app --seconds 3`; prints one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

# The clock is read once a batch: reading it would weigh on an application that takes a microsecond.
BATCH_SECONDS = 0.01


class Loop:
    """An application and the request that it is called with, again and again."""

    def __init__(self, app: WSGIApplication, method: str, path: str, body: bytes) -> None:
        """Prepare what does not change from call to call."""
        self.app = app
        self.body = body
        self.environ = environ_template(method, path, len(body))
        self.status = ""
        self.bytes_sent = 0

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """Take the head of the response; PEP 3333, "The start_response() Callable"."""
        self.status = status
        return self.write

    def write(self, data: bytes) -> None:
        """Count what the application writes or yields."""
        self.bytes_sent += len(data)

    def call(self) -> None:
        """Call the application once."""
        environ = self.environ.copy()
        environ["wsgi.input"] = io.BytesIO(self.body)
        result: Iterable[bytes] = self.app(environ, self.start_response)
        try:
            for chunk in result:
                self.bytes_sent += len(chunk)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def run(self, seconds: float) -> dict[str, float]:
        """Call until `seconds` have passed; returns calls, wall and CPU seconds, and bytes of body."""
        batch, calls, bytes_before = 1, 0, self.bytes_sent
        cpu_start, start = time.process_time(), time.perf_counter()
        now = start
        while now - start < seconds:
            for _ in range(batch):
                self.call()
            calls += batch
            before, now = now, time.perf_counter()
            if now - before < BATCH_SECONDS / 2:
                batch *= 2
        return {
            "requests": calls,
            "seconds": now - start,
            "cpu_seconds": time.process_time() - cpu_start,
            "bytes": self.bytes_sent - bytes_before,
        }


def environ_template(method: str, path: str, body_bytes: int) -> WSGIEnvironment:
    """Build the environ that a server would for this request from wrk; PEP 3333, "environ Variables"."""
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "REQUEST_URI": path,
        "RAW_URI": path,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "bare-loop",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        "HTTP_HOST": "127.0.0.1:8080",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
    }
    if body_bytes:
        environ["CONTENT_LENGTH"] = str(body_bytes)
    return environ


def load_app(name: str) -> WSGIApplication:
    """Import `package.module:attribute`."""
    module, _, attribute = name.partition(":")
    app: WSGIApplication = getattr(importlib.import_module(module), attribute)
    return app


def run_together(loops: Sequence[Loop], seconds: float) -> dict[str, float]:
    """Run each loop in a thread of its own; as `Loop.run`, for all of them."""
    if len(loops) == 1:
        return loops[0].run(seconds)
    results: list[dict[str, float]] = []
    cpu_start, start = time.process_time(), time.perf_counter()

    def run(loop: Loop) -> None:
        results.append(loop.run(seconds))

    threads = [threading.Thread(target=run, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "requests": sum(result["requests"] for result in results),
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu_start,
        "bytes": sum(result["bytes"] for result in results),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bare_loop", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("app", help="package.module:attribute")
    parser.add_argument("--method", default="GET")
    parser.add_argument("--path", default="/")
    parser.add_argument("--body-bytes", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()

    app, body = load_app(options.app), b"x" * options.body_bytes
    loops = [Loop(app, options.method, options.path, body) for _ in range(options.threads)]
    loops[0].run(0.2)
    if loops[0].status.split()[0] != "200":
        sys.exit(f"{options.app} answered {loops[0].status!r} to {options.path}")
    print(json.dumps(run_together(loops, options.seconds)))


if __name__ == "__main__":
    main()
