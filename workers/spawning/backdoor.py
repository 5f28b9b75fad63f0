"""A Python console in a worker, for ``--backdoor``: behind a unix socket for the server's own user alone.

The server's side sends text and a prompt, each ended by a NUL; the client answers with a line. An empty
prompt ends the conversation. ``spawn console`` is such a client (:mod:`spawning.console`).
"""

import ast
import atexit
import codeop
import contextlib
import functools
import io
import os
import socket
import struct
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOCKET_PREFIX = "console-"
PROMPT = ">>> "
CONTINUATION = "... "
FILENAME = "<console>"
END = b"\0"
BANNER = "Python in worker {pid}, slot {slot}. The application is `app`.\n"


def start(directory: str, slot: int, application: Callable[..., Any]) -> None:
    """Listen in ``directory``, which is closed to other users. The threads are green where all are."""
    address = Path(directory) / f"{SOCKET_PREFIX}{slot}-{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    address.chmod(0o600)
    listener.listen()
    arguments = (listener, slot, application)
    threading.Thread(target=_accept, args=arguments, name="backdoor", daemon=True).start()
    atexit.register(address.unlink, missing_ok=True)


def _accept(listener: socket.socket, slot: int, application: Callable[..., Any]) -> None:
    while True:
        connection, _ = listener.accept()
        if _may_enter(connection):
            session = functools.partial(_converse, connection, slot, application)
            threading.Thread(target=session, name="console", daemon=True).start()
        else:
            connection.close()


def _may_enter(connection: socket.socket) -> bool:
    """Whether the other side is this process's user, or root: permissions of the socket say the same."""
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return user in (0, os.geteuid())


def _converse(connection: socket.socket, slot: int, application: Callable[..., Any]) -> None:
    console = Console({"app": application})
    with connection, contextlib.suppress(OSError), connection.makefile("r", encoding="utf-8") as lines:
        _say(connection, BANNER.format(pid=os.getpid(), slot=slot), PROMPT)
        for line in lines:
            text, prompt = console.push(line.rstrip("\n"))
            _say(connection, text, prompt)
            if not prompt:
                return


def _say(connection: socket.socket, text: str, prompt: str) -> None:
    parts = (text.replace("\0", "\\0"), prompt)
    connection.sendall(b"".join(part.encode("utf-8", "backslashreplace") + END for part in parts))


class Console:
    """One user's names, and the lines that are not a whole statement yet.

    ``code.InteractiveConsole`` prints to the process's standard output, which is the access log.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        """Begin with some names."""
        self._out = io.StringIO()
        self._names = {"__name__": "__console__", "print": functools.partial(print, file=self._out), **names}
        self._lines: list[str] = []
        self._compile = codeop.CommandCompiler()

    def push(self, line: str) -> tuple[str, str]:
        """Take a line; return what it prints, and the next prompt, empty after ``exit()``."""
        self._lines.append(line)
        source = "\n".join(self._lines)
        try:
            if self._compile(source, FILENAME, "single") is None:
                return "", CONTINUATION
            self._run(ast.parse(source, FILENAME))
        except SystemExit:
            return self._printed(), ""
        except (OverflowError, SyntaxError, ValueError) as error:
            self._out.write("".join(traceback.format_exception_only(error)))
        except BaseException as error:
            # Without the frame of this file.
            summary = traceback.TracebackException.from_exception(error)
            summary.stack = traceback.StackSummary.from_list(
                [frame for frame in summary.stack if frame.filename != __file__]
            )
            self._out.write("".join(summary.format()))
        self._lines.clear()
        return self._printed(), PROMPT

    def _run(self, tree: ast.Module) -> None:
        last = tree.body[-1] if tree.body else None
        if not isinstance(last, ast.Expr):
            exec(compile(tree, FILENAME, "exec"), self._names)
            return
        exec(compile(ast.Module(tree.body[:-1], []), FILENAME, "exec"), self._names)
        value = eval(compile(ast.Expression(last.value), FILENAME, "eval"), self._names)
        if value is not None:
            self._names["_"] = value
            self._out.write(f"{value!r}\n")

    def _printed(self) -> str:
        text = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        return text
