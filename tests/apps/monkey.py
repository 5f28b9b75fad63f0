"""An application that does at random what no server hopes for; `/` is an honest view beside it.

`/misbehave?SEED` chooses one of the functions below. Each ends within a second or so, and none of them may
take anything away from the requests of others.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PLAIN_TEXT = [("Content-Type", "text/plain")]
FORK = multiprocessing.get_context("fork")
LEAKS_MAX = 50

leaks: list[object] = []


class Unusual(BaseException):
    """No `except Exception` catches it."""


def leak(thing: object) -> None:
    """Keep a thing, and forget the oldest of many."""
    leaks.append(thing)
    del leaks[:-LEAKS_MAX]


def forks() -> None:
    """Leaves a child that outlives the request."""
    if os.fork() == 0:
        time.sleep(0.3)
        os._exit(0)


def forks_and_raises_in_the_child() -> None:
    """The child comes back into the server's code by an exception."""
    if os.fork() == 0:
        raise Unusual("in the child")


def forks_and_answers_twice() -> None:
    """The child answers the request as well."""
    os.fork()


def forks_by_multiprocessing() -> None:
    """Starts a child, and ends it before it is done."""
    child = FORK.Process(target=time.sleep, args=(30,), daemon=True)
    child.start()
    child.terminate()
    child.join()


def spawns() -> None:
    """Starts programs without fork(3)."""
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    os.system("sleep 0.2 &")
    os.waitpid(pid, 0)


def signals() -> None:
    """Sends the worker what is meant for the supervisor."""
    os.kill(os.getpid(), random.choice([signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2]))


def executes() -> None:
    """Runs programs, with and without the descriptors."""
    subprocess.run(["true"], check=True)
    subprocess.run(["sh", "-c", "exit 3"], check=False, close_fds=False)


def leaves_a_daemon() -> None:
    """A program of a session of its own, with all descriptors that may be inherited."""
    subprocess.Popen(["sleep", "0.5"], start_new_session=True, close_fds=False)


def reaps() -> None:
    """Waits for any child there is, as careless code does."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def starts_threads() -> None:
    """Threads that compute and end after the request, one by the lowest level there is."""
    threading.Thread(target=sum, args=(range(200_000),), daemon=True).start()
    _thread.start_new_thread(raises, ())


def patches() -> None:
    """Replaces parts of the standard library for a moment."""
    original = time.sleep
    time.sleep = lambda seconds: None
    original(0.01)
    time.sleep = original


def closes_streams() -> None:
    """Closes the standard streams and their descriptors."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdin.close()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.close()
    for descriptor in range(3):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def prints() -> None:
    """Writes wherever the standard streams lead now."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            print("x" * 10_000, file=stream, flush=True)


def raises() -> NoReturn:
    """A plain fault."""
    raise RuntimeError("as a view does")


def raises_something_unusual() -> NoReturn:
    """What hardly any code expects."""
    raise random.choice([Unusual(), KeyboardInterrupt(), GeneratorExit(), SystemExit(3), MemoryError()])


def recurses() -> None:
    """Runs out of stack frames."""
    recurses()


def blocks() -> None:
    """Waits without the interpreter."""
    time.sleep(random.random() / 2)


def computes() -> None:
    """Holds the interpreter in one call."""
    sum(range(2_000_000))


def leaks_a_descriptor() -> None:
    """Opens and forgets."""
    leak(socket.socketpair())


def leaks_memory() -> None:
    """Keeps a megabyte."""
    leak(bytes(1_000_000))


def exits() -> NoReturn:
    """Means to end the program."""
    sys.exit("the application is done")


def changes_settings() -> None:
    """Changes what holds for the whole process."""
    sys.setswitchinterval(random.choice([0.000_01, 0.005, 1.0]))
    sys.setrecursionlimit(random.choice([200, 1000, 5000]))
    socket.setdefaulttimeout(random.choice([None, 0.001]))
    os.umask(random.choice([0o022, 0o777]))
    random.choice([gc.enable, gc.disable])()
    sys.settrace(None)


MISDEEDS: list[Callable[[], None]] = [
    forks,
    forks_and_raises_in_the_child,
    forks_and_answers_twice,
    forks_by_multiprocessing,
    spawns,
    signals,
    executes,
    leaves_a_daemon,
    reaps,
    starts_threads,
    patches,
    closes_streams,
    prints,
    raises,
    raises_something_unusual,
    recurses,
    blocks,
    computes,
    leaks_a_descriptor,
    leaks_memory,
    exits,
    changes_settings,
]


def broken_body(chosen: random.Random) -> Any:
    """A body that is not what it should be."""

    def parts() -> Iterator[bytes]:
        yield b"begun"
        raise chosen.choice([RuntimeError, StopIteration, Unusual])

    return chosen.choice([parts(), iter([b"short"]), iter([b"x" * 500_000] * 4), "text", [1], None])


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI callable."""
    if environ["PATH_INFO"] != "/misbehave":
        start_response("200 OK", [*PLAIN_TEXT, ("Content-Length", "6")])
        return [b"honest"]
    chosen = random.Random(environ["QUERY_STRING"])
    chosen.choice(MISDEEDS)()
    start_response("200 OK", PLAIN_TEXT)
    if chosen.random() < 0.3:
        body: Iterable[bytes] = broken_body(chosen)
        return body
    return [b"done"]
