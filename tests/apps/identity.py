"""Tells as whom it runs, whether there is a way back, and what of its parent's environment it sees."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from apps.routes import PLAIN_TEXT, Routes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PREFIXES = ("LISTEN_", "NOTIFY_", "WATCHDOG_")

app = Routes()


@app.bare
def who(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """As whom, and whether it can become root again."""
    regained = []
    for become_root in (os.setuid, os.seteuid, os.setgid, os.setegid):
        with contextlib.suppress(PermissionError):
            become_root(0)
            regained.append(become_root.__name__)
    report = {
        "users": os.getresuid(),
        "groups": os.getresgid(),
        "supplementary": os.getgroups(),
        "regained": regained,
    }
    start_response("200 OK", list(PLAIN_TEXT))
    return [json.dumps(report).encode()]


@app.bare
def variables(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The environment variables that systemd means for the supervisor alone."""
    start_response("200 OK", list(PLAIN_TEXT))
    return [json.dumps({name: os.environ[name] for name in os.environ if name.startswith(PREFIXES)}).encode()]


@app.bare
def orphan(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Leaves a process behind that nobody waits for; the query says how long it lives."""
    seconds = float(environ["QUERY_STRING"])
    subprocess.run(["sh", "-c", f"sleep {seconds} &"], check=True)
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"left"]


@app.bare
def say(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Prints the query on both standard streams."""
    for stream in (sys.stdout, sys.stderr):
        print(environ["QUERY_STRING"], file=stream, flush=True)
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"said"]
