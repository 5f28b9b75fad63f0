"""Starts children in every way that applications do, each of which says what it has inherited."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import json
import multiprocessing
import os
import resource
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

SLEEP_S = 600
SIGNALS = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "CHLD")


def inherited() -> dict[str, object]:
    """What this process holds that may be the server's."""
    descriptors = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            descriptors[entry.name] = str(entry.readlink())
        except FileNotFoundError:
            continue
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "descriptors": descriptors,
        "handlers": {name: str(signal.getsignal(getattr(signal, f"SIG{name}"))) for name in SIGNALS},
        "blocked": int(status["SigBlk"], 16),
        "ignored": int(status["SigIgn"], 16),
        "caught": int(status["SigCgt"], 16),
        "pid": os.getpid(),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "locked_memory": resource.getrlimit(resource.RLIMIT_MEMLOCK),
        "cores": sorted(os.sched_getaffinity(0)),
        "environment": sorted(os.environ),
        "nice": os.nice(0),
        "oom_score_adj": int(Path("/proc/self/oom_score_adj").read_text()),
    }


def _tell(path: str) -> None:
    Path(path).write_text(json.dumps(inherited()))


def _tell_and_sleep(path: str) -> None:
    _tell(path + ".part")
    Path(path + ".part").rename(path)
    time.sleep(SLEEP_S)


def _in_child(pid: int, path: str) -> int:
    if pid == 0:
        _tell_and_sleep(path)
        os._exit(0)
    return pid


def _in_c(path: str) -> int:
    libc = ctypes.CDLL(None)
    pid = libc.fork()
    if pid == 0:
        _tell(path + ".part")
        Path(path + ".part").rename(path)
        libc.pause()
        os._exit(0)
    return int(pid)


def _process(method: str, path: str) -> int:
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=_tell_and_sleep, args=(path,), daemon=True)
    process.start()
    return int(process.pid)


def _pool(path: str) -> int:
    context = multiprocessing.get_context("fork")
    executor = concurrent.futures.ProcessPoolExecutor(1, mp_context=context)
    pid = executor.submit(os.getpid).result()
    executor.submit(_tell_and_sleep, path)
    return pid


def _thread(path: str) -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(_in_child(os.fork(), path)))
    thread.start()
    thread.join()
    return found[0]


def _grandchild(path: str) -> int:
    """A daemon as textbooks start it: its parent ends at once."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            # Daemons leave the standard streams, too: whoever reads those would wait for their end.
            null = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(null, stream)
            _tell_and_sleep(path)
        os.write(writer, str(pid).encode())
        os._exit(0)
    os.close(writer)
    pid = int(os.read(reader, 20))
    os.close(reader)
    return pid


def _command(path: str) -> list[str]:
    return [sys.executable, __file__, path]


def _popen(path: str, **how: object) -> int:
    return int(subprocess.Popen(_command(path), **how).pid)  # type: ignore[call-overload]


def _passing_descriptors(path: str) -> int:
    reader, writer = os.pipe()
    pid = _popen(path, pass_fds=[writer])
    os.close(reader)
    os.close(writer)
    return pid


def _executed(path: str) -> int:
    pid = os.fork()
    if pid == 0:
        os.execv(sys.executable, _command(path))
    return pid


def _spawned_in_c(path: str) -> int:
    libc, pid, command = ctypes.CDLL(None), ctypes.c_int(), _command(path)
    words = (ctypes.c_char_p * (len(command) + 1))(*map(os.fsencode, command))
    environment = (ctypes.c_char_p * (len(os.environb) + 1))(*map(b"=".join, os.environb.items()))
    assert libc.posix_spawn(ctypes.byref(pid), words[0], None, None, words, environment) == 0
    return pid.value


def _in_background(path: str) -> int:
    # It finds its number itself.
    return os.system(f"{shlex.join(_command(path))} &")


WAYS: dict[str, Callable[[str], int]] = {
    "os.fork": lambda path: _in_child(os.fork(), path),
    "os.forkpty": lambda path: _in_child(os.forkpty()[0], path),
    "multiprocessing-fork": lambda path: _process("fork", path),
    "multiprocessing-forkserver": lambda path: _process("forkserver", path),
    "multiprocessing-spawn": lambda path: _process("spawn", path),
    "pool": _pool,
    "thread": _thread,
    "grandchild": _grandchild,
    # As a library in C does it: Python's hooks do not run.
    "fork(2)": _in_c,
    "subprocess": _popen,
    "subprocess-keeping": lambda path: _popen(path, close_fds=False),
    "subprocess-passing": _passing_descriptors,
    "subprocess-preexec": lambda path: _popen(path, preexec_fn=os.getpid),
    "os.posix_spawn": lambda path: os.posix_spawn(sys.executable, _command(path), os.environ),
    "posix_spawn(3)": _spawned_in_c,
    "os.execv": _executed,
    "os.system": _in_background,
}


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    query = {name: values[0] for name, values in parse_qs(str(environ["QUERY_STRING"])).items()}
    action = str(environ["PATH_INFO"])[1:]
    said: object = os.getpid()
    if action == "start":
        said = WAYS[query["way"]](query["path"])
    elif action == "return":
        # The child, too, returns from here, or raises.
        pid = os.fork()
        if pid == 0 and "status" in query:
            sys.exit(int(query["status"]))
        if pid == 0 and "raise" in query:
            raise RuntimeError("in the child")
        said = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else "child"
    elif action == "parts":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return _parts()
    elif action == "terminate":
        process = multiprocessing.get_context("fork").Process(target=_stubborn)
        process.start()
        process.terminate()
        process.join()
        said = process.exitcode
    elif action == "pool":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            said = pool.map(abs, [-1, -2])
    elif action == "inherited":
        said = inherited()
    elif action == "select":
        said = _select()
    elif action == "close":
        if "streams" in query:
            sys.stdout.close()
            sys.stderr.close()
        for descriptor in range(3):
            with contextlib.suppress(OSError):
                os.close(descriptor)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(said).encode()]


def _select() -> int:
    """A descriptor that select(2) can wait for."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        assert select.select([ours], [], [], 60)[0] == [ours]
        return ours.fileno()


def _parts() -> Iterable[bytes]:
    yield b"first "
    pid = os.fork()
    yield b"second " if pid else b"CHILD "
    os.waitpid(pid, 0)
    yield b"third"


def _stubborn() -> None:
    while True:
        # As much real code does.
        with contextlib.suppress(BaseException):
            time.sleep(0.1)


if __name__ == "__main__":
    _tell_and_sleep(sys.argv[1])
