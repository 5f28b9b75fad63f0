"""For green mode: requests that wait for each other, and facts about how they run."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from apps.frameworks.meeting import meet
from apps.gate import log, wait_for_file

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]

#: Set once `/release` has been asked for; `/wait` answers then.
released = threading.Event()
waiting = 0
#: Requests in `large` and `write`.
sending = 0
LARGE = b"x" * (1 << 20)


def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
    path = environ["PATH_INFO"].rpartition("/")[2]
    view = VIEWS.get(path, hello)
    return view(environ, start_response)


def _text(start_response: Start, body: str) -> Iterable[bytes]:
    data = body.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(data)))])
    return [data]


def hello(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return _text(start_response, "hello")


def wait(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """A long poll."""
    global waiting
    waiting += 1
    try:
        released.wait()
    finally:
        waiting -= 1
    return _text(start_response, "released")


def gate(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Waits for the file that the query names."""
    log(f"waits for {environ['QUERY_STRING']}")
    wait_for_file(environ["QUERY_STRING"])
    return _text(start_response, "open")


def together(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return _text(start_response, meet(int(environ["QUERY_STRING"])))


def release(environ: Environ, start_response: Start) -> Iterable[bytes]:
    released.set()
    return _text(start_response, str(waiting))


def count(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """How many are in `wait`."""
    return _text(start_response, str(waiting))


def facts(environ: Environ, start_response: Start) -> Iterable[bytes]:
    main = open("/proc/thread-self/stat").read().split()[0] == str(os.getpid())  # noqa: PTH123, SIM115
    found = {
        "multithread": environ["wsgi.multithread"],
        "sleep": time.sleep.__module__,
        "is_main_thread": main,
        "pid": os.getpid(),
        "sending": sending,
    }
    return _text(start_response, json.dumps(found))


def stream(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Pieces with a switch to others after each."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(5):
        time.sleep(0.001)
        yield f"{number}\n".encode()


def large(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """More than the server and the kernel keep for a slow client."""
    global sending
    sending += 1
    try:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(64 * len(LARGE)))])
        for _ in range(64):
            yield LARGE
    finally:
        sending -= 1


def write(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """The same by `write`."""
    global sending
    sending += 1
    try:
        push = start_response("200 OK", [("Content-Length", str(64 * len(LARGE)))])
        for _ in range(64):
            push(LARGE)
    finally:
        sending -= 1
    return []


def upload(environ: Environ, start_response: Start) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    return _text(start_response, f"{len(body)} {sum(body) % 65536}")


def fail(environ: Environ, start_response: Start) -> Iterable[bytes]:
    time.sleep(0.001)
    raise RuntimeError("as asked")


def leaves(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Leaves something of gevent's that comes to this green thread when its request is over."""
    import gevent

    late = 0.05
    if environ["QUERY_STRING"] == "timeout":
        gevent.Timeout.start_new(late)
    else:
        gevent.spawn_later(late, gevent.getcurrent().kill, block=False)
    gevent.spawn_later(2 * late, log, "it has come")
    return _text(start_response, "left")


def spin(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Never comes back, nor lets anybody else run."""
    while True:
        pass


VIEWS = {
    "wait": wait,
    "gate": gate,
    "together": together,
    "release": release,
    "count": count,
    "facts": facts,
    "stream": stream,
    "large": large,
    "write": write,
    "upload": upload,
    "fail": fail,
    "leaves": leaves,
    "spin": spin,
}
