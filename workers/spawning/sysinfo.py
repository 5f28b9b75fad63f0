"""Facts about the platform at ``/_sysinfo``, for ``--sysinfo``."""

import json
import os
import platform
import sys
import sysconfig
from collections.abc import Callable, Iterable
from typing import Any

from spawning import __version__
from spawning.pages import answer

PATH = "/_sysinfo"


class Sysinfo:
    """Middleware that answers :data:`PATH` itself, and leaves every other path to the application."""

    def __init__(self, application: Callable[..., Any]) -> None:
        """Wrap an application."""
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request (PEP 3333)."""
        if environ.get("PATH_INFO") != PATH:
            return self._application(environ, start_response)  # type: ignore[no-any-return]
        return answer(
            environ, start_response, "application/json", lambda: json.dumps(facts(), indent=2).encode()
        )


def facts() -> dict[str, Any]:
    """Return what a bug report about this worker needs to say of its platform."""
    system = platform.uname()
    return {
        "spawning": __version__,
        "python_implementation": platform.python_implementation(),
        "python_version": platform.python_version(),
        "python_executable": sys.executable,
        "python_prefix": sys.prefix,
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "system": system.system,
        "release": system.release,
        "version": system.version,
        "machine": system.machine,
        "node": system.node,
        "libc": " ".join(platform.libc_ver()),
        "byte_order": sys.byteorder,
        "cpus": os.cpu_count(),
        "cpus_allowed": sorted(os.sched_getaffinity(0)),
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "pid": os.getpid(),
    }
