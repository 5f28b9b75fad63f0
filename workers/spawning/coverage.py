"""Which lines of the application have run, in all workers together, for ``--coverage``.

Each worker measures itself. The one that is asked for a report has the others save what they have measured,
which they do when somebody connects to their sockets, and combines it all.
"""

import atexit
import contextlib
import fcntl
import mimetypes
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import coverage
from coverage.exceptions import CoverageException

from spawning.pages import answer

PATH = "/_coverage"
JSON_PATH = "/_coverage.json"
SAVE_TIMEOUT_S = 10.0
LOCK_PAUSE_S = 0.02

# Of no interest where every process runs only a part of the application.
WARNINGS_OFF = ["no-data-collected", "module-not-imported", "module-not-measured", "already-imported"]


def start(directory: str, green: str | None) -> "Measurement":
    """Measure from now on. ``directory`` is private to the workers of this server."""
    measurement = Measurement(Path(directory), green)
    measurement.start()
    return measurement


class Measurement:
    """What this process measures of itself."""

    def __init__(self, directory: Path, green: str | None) -> None:
        """Prepare to measure threads, and the green threads of the library ``green``."""
        self._directory = directory
        self._measured = _configured(
            data_file=str(directory / "data"),
            data_suffix=str(os.getpid()),
            concurrency=[green] if green else ["thread"],
        )
        self._saving = threading.Lock()

    def start(self) -> None:
        """Begin, and save when a sibling asks, and at the end."""
        self._measured.start()
        address = self._directory / f"save-{os.getpid()}"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(address))
        listener.listen()
        threading.Thread(target=self._save_for_others, args=[listener], name="coverage", daemon=True).start()
        atexit.register(self._end, address)

    def _end(self, address: Path) -> None:
        self._measured.stop()
        self.save()
        address.unlink(missing_ok=True)

    def save(self) -> None:
        """Write down what has run so far, if the server is not just removing everything."""
        with self._saving, contextlib.suppress(CoverageException, OSError):
            self._measured.save()

    def _save_for_others(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                self.save()
                connection.sendall(b"saved")

    def html(self) -> Path:
        """Make the report, and return its directory."""
        pages = self._directory / "html"
        with self._combined() as combined:
            combined.html_report(directory=str(pages))
        return pages

    def json(self) -> bytes:
        """Return the data as the JSON of ``coverage json``."""
        data = self._directory / "report.json"
        with self._combined() as combined:
            combined.json_report(outfile=str(data))
            return data.read_bytes()

    @contextlib.contextmanager
    def _combined(self) -> Iterator[coverage.Coverage]:
        """What all processes that ever were have measured. One report at a time."""
        with (self._directory / "lock").open("w") as lock:
            while not _locked(lock.fileno()):
                time.sleep(LOCK_PAUSE_S)
            self.save()
            for sibling in self._directory.glob("save-*"):
                if sibling.name != f"save-{os.getpid()}":
                    _have_saved(sibling)
            combined = _configured(data_file=None)
            combined.combine([str(path) for path in self._directory.glob("data.*")], keep=True)
            yield combined

    def middleware(self, application: Callable[..., Any]) -> Callable[..., Any]:
        """Return the application with the report beside it."""
        return Report(self, application)


class Report:
    """Middleware that answers :data:`PATH`, what lies below it, and :data:`JSON_PATH`."""

    def __init__(self, measurement: Measurement, application: Callable[..., Any]) -> None:
        """Wrap an application."""
        self._measurement = measurement
        self._application = application
        self._pages: Path | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request (PEP 3333)."""
        path = environ.get("PATH_INFO", "")
        if path == JSON_PATH:
            return answer(environ, start_response, "application/json", self._measurement.json)
        if path in (PATH, PATH + "/"):
            return answer(environ, start_response, "text/html; charset=utf-8", self._index)
        if path.startswith(PATH + "/"):
            return self._page(path.removeprefix(PATH + "/"), environ, start_response)
        return self._application(environ, start_response)  # type: ignore[no-any-return]

    def _index(self) -> bytes:
        self._pages = self._measurement.html()
        page = (self._pages / "index.html").read_bytes()
        # Its links are relative to a directory, which the path is not.
        return page.replace(b"<head>", b'<head><base href="' + PATH.encode() + b'/">', 1)

    def _page(
        self, name: str, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        pages = self._measurement.html() if self._pages is None else self._pages
        self._pages = pages
        # A name that is there holds no slash: nothing else can be reached.
        if name not in os.listdir(pages):  # noqa: PTH208 (names, not paths)
            start_response("404 Not Found", [("Content-Length", "0")])
            return []
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return answer(environ, start_response, kind, (pages / name).read_bytes)


def _configured(**settings: Any) -> coverage.Coverage:
    """Return what the user's own configuration says, or else the current directory's code alone."""
    made = coverage.Coverage(**settings)
    if not any(made.get_option(f"run:{option}") for option in ("source", "source_pkgs", "include")):
        made.set_option("run:source", [str(Path.cwd())])
    made.set_option("run:disable_warnings", WARNINGS_OFF)
    return made


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _have_saved(sibling: Path) -> None:
    """Have the worker behind that socket save; one that is dead has, or never will."""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.settimeout(SAVE_TIMEOUT_S)
        connection.connect(str(sibling))
        connection.recv(16)
