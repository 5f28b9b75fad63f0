"""Spawning: a WSGI server with processes, threads and reloads that never drop a request."""

from spawning._core import __version__

__all__ = ["__version__"]
