"""The ceiling does all that PEP 3333 asks of a server, so that it is a fair one."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from wsgiref.validate import validator

import pytest

from ..apps import hello, shapes
from ..bare_loop import Loop, run_together
from ..workloads import HELLO, SHAPES, WORKLOADS, Load

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

APPS = {HELLO: hello.app, SHAPES: shapes.app}
LOADS = [(workload.app, load) for workload in WORKLOADS if workload.app in APPS for load in workload.loads]


class Closing:
    """An iterable that counts how often it was closed."""

    closed = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield two pieces."""
        return iter((b"He", b"llo"))

    def close(self) -> None:
        """Count."""
        type(self).closed += 1


def test_the_iterable_is_consumed_and_closed_in_every_call() -> None:
    """PEP 3333: "the server or gateway must call that method upon completion of the current request"."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Closing()

    result = Loop(app, "GET", "/", b"").run(0.02)
    assert Closing.closed == result["requests"]
    assert result["bytes"] == 5 * result["requests"]


def test_every_call_gets_an_environ_and_an_input_of_its_own() -> None:
    """What an application leaves in one must not reach the next."""
    bodies = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        assert "left" not in environ
        environ["left"] = True
        bodies.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return []

    loop = Loop(app, "POST", "/", b"body")
    loop.call()
    loop.call()
    assert bodies == [b"body", b"body"]


def test_threads_call_the_application_together() -> None:
    """As a server's would: what waits in one does not hold up the others."""
    met, everybody = set(), threading.Barrier(3)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        if threading.get_ident() not in met:
            met.add(threading.get_ident())
            everybody.wait(timeout=60)
        return [b"x"]

    result = run_together([Loop(app, "GET", "/", b"") for _ in range(3)], 0.02)
    assert len(met) == 3
    assert result["bytes"] == result["requests"] >= 3


@pytest.mark.parametrize(
    ("app", "load"), LOADS, ids=lambda value: value.path if isinstance(value, Load) else None
)
def test_applications_are_legal_and_answer_what_their_workload_says(app: str, load: Load) -> None:
    """Under the standard library's validator; the file needs its own wrapper, which the validator refuses."""
    checked = APPS[app] if load.path == "/file" else validator(APPS[app])
    loop = Loop(checked, load.method, load.path, b"x" * load.body_bytes)
    loop.call()
    assert loop.status == "200 OK"
    assert load.response_bytes in {None, loop.bytes_sent}
