"""Who takes part: one entry a server."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .environment import ROOT, VENV

PROGRAMS = VENV / "bin"
CONNECTIONS_MAX = 512
"""More than any load opens; for servers that want to be told."""


@dataclass(frozen=True)
class Launch:
    """What one run asks of a server."""

    app: str
    port: int
    processes: int
    threads: int
    scratch: Path
    """An empty directory of this run's own."""


@dataclass(frozen=True)
class Server:
    """How to install a server and how to start it on 127.0.0.1."""

    name: str
    distribution: str
    """Name in the Python package index, for the version in the report."""
    pin: str | None
    """Version to install; `None` builds this repository."""
    command: Callable[[Launch], list[str]]
    packages: tuple[str, ...] = ()
    """Debian packages that building or running it needs."""
    processes_max: int | None = None
    threads_max: int | None = None
    """`None`: any number. A smaller bound than asked for is used, and shown in the report."""

    def shape(self, processes: int, threads: int) -> tuple[int, int]:
        """Return the nearest to `processes` and `threads` that the server can do."""
        return min(processes, self.processes_max or processes), min(threads, self.threads_max or threads)


def program(name: str, *arguments: object) -> list[str]:
    """Return the command line of a program in the benchmark's virtualenv."""
    return [str(PROGRAMS / name), *map(str, arguments)]


def spawning(launch: Launch) -> list[str]:
    """Start this server."""
    size = ("-s", launch.processes, "-t", launch.threads)
    return program("spawn", "-i", "127.0.0.1", "-p", launch.port, *size, "-l", "/dev/null", launch.app)


def granian(launch: Launch) -> list[str]:
    """Start granian."""
    size = ("--workers", launch.processes, "--blocking-threads", launch.threads, "--runtime-threads", 1)
    address = ("--host", "127.0.0.1", "--port", launch.port)
    return program("granian", "--interface", "wsgi", *size, "--no-ws", "--http", 1, *address, launch.app)


def gunicorn(launch: Launch) -> list[str]:
    """Start gunicorn with its threaded worker, the one that keeps connections alive."""
    size = ("--workers", launch.processes, "--threads", launch.threads)
    address = ("--bind", f"127.0.0.1:{launch.port}")
    return program(
        "gunicorn", "--worker-class", "gthread", *size, *address, "--no-control-socket", launch.app
    )


def uwsgi(launch: Launch) -> list[str]:
    """Start uWSGI without its HTTP router: a connection a request, and still faster than with it."""
    size = ("--processes", launch.processes, "--threads", launch.threads)
    http = ("--http-socket", f"127.0.0.1:{launch.port}", "--listen", CONNECTIONS_MAX)
    # Clients are to know that the connection ends: wrk would call it a read error.
    life = (
        "--add-header",
        "Connection: close",
        "--master",
        "--die-on-term",
        "--need-app",
        "--disable-logging",
    )
    app = ("--single-interpreter", "--virtualenv", VENV, "--pythonpath", ROOT, "--wsgi", launch.app)
    return program("uwsgi", *http, *size, *life, *app)


def bjoern(launch: Launch) -> list[str]:
    """Start bjoern, which has no command of its own."""
    module, _, attribute = launch.app.partition(":")
    code = (
        f"import bjoern; from {module} import {attribute} as app; bjoern.run(app, '127.0.0.1', {launch.port})"
    )
    return program("python", "-c", code)


def fastwsgi(launch: Launch) -> list[str]:
    """Start FastWSGI."""
    return program("fastwsgi", "--host", "127.0.0.1", "--port", launch.port, launch.app)


def fastpysgi(launch: Launch) -> list[str]:
    """Start FastPySGI, the successor of FastWSGI."""
    module, _, attribute = launch.app.partition(":")
    code = (
        f"import fastpysgi; from {module} import {attribute} as app; "
        f"fastpysgi.run(app, '127.0.0.1', {launch.port}, workers={launch.processes})"
    )
    return program("python", "-c", code)


def peregrine(launch: Launch) -> list[str]:
    """Start peregrine."""
    address = ("--host", "127.0.0.1", "--port", launch.port)
    size = ("--workers", launch.processes, "--wsgi-threads", launch.threads)
    return program("peregrine", "--protocol", "wsgi", *address, *size, launch.app)


def waitress(launch: Launch) -> list[str]:
    """Start waitress with room for all connections, and without its warning for each request that waits."""
    module, _, attribute = launch.app.partition(":")
    code = (
        f"import logging, waitress; from {module} import {attribute} as app; "
        "logging.getLogger('waitress.queue').setLevel('ERROR'); "
        f"waitress.serve(app, listen='127.0.0.1:{launch.port}', threads={launch.threads}, "
        f"connection_limit={CONNECTIONS_MAX})"
    )
    return program("python", "-c", code)


def cheroot(launch: Launch) -> list[str]:
    """Start cheroot."""
    address = ("--bind", f"127.0.0.1:{launch.port}")
    return program("cheroot", *address, "--threads", launch.threads, launch.app)


def mod_wsgi(launch: Launch) -> list[str]:
    """Start Apache with mod_wsgi in daemon mode, with a thread for each client connection."""
    module, _, attribute = launch.app.partition(":")
    app = ("--application-type", "module", module, "--callable-object", attribute, "--python-path", ROOT)
    address = ("--host", "127.0.0.1", "--port", launch.port)
    size = ("--processes", launch.processes, "--threads", launch.threads)
    # Apache's usual spare-worker keeping and 2 s keep-alive close connections under load: read errors.
    front = ("--server-mpm", "worker", "--max-clients", CONNECTIONS_MAX, "--initial-workers", 1)
    patience = ("--keep-alive-timeout", 30)
    files = ("--server-root", launch.scratch / "apache", "--log-to-terminal", "--locale", "C.UTF-8")
    command = program("mod_wsgi-express", "start-server", *app, *address, *size, *front, *patience, *files)
    if os.geteuid() != 0:
        return command
    # Apache refuses to serve as root, and the user it would change to may not be able to read this Python.
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", *command]


BUILD = ("gcc", "libc6-dev")

SERVERS = (
    Server("spawning", "Spawning", None, spawning, (*BUILD, "git")),
    Server("granian", "granian", "2.8.7", granian),
    Server("gunicorn", "gunicorn", "27.0.1", gunicorn),
    Server("uwsgi", "uWSGI", "2.0.31", uwsgi, BUILD),
    Server("mod_wsgi", "mod_wsgi", "6.1.1", mod_wsgi, (*BUILD, "apache2-bin", "apache2-dev")),
    Server("bjoern", "bjoern", "3.2.2", bjoern, (*BUILD, "libev-dev"), processes_max=1, threads_max=1),
    Server("fastwsgi", "fastwsgi", "0.0.9", fastwsgi, BUILD, processes_max=1, threads_max=1),
    Server("fastpysgi", "fastpysgi", "0.6", fastpysgi, threads_max=1),
    Server("peregrine", "peregrine-server", "1.2.0", peregrine),
    Server("waitress", "waitress", "3.0.2", waitress, processes_max=1),
    Server("cheroot", "cheroot", "11.1.2", cheroot, processes_max=1),
)

CEILING = "bare loop"
"""Name, in the report, of the application called without a server; see `bare_loop`."""


def server_named(name: str) -> Server:
    """Return the entry of that name."""
    return next(server for server in SERVERS if server.name == name)
