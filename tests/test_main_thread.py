"""`--main-thread`, and a prompt of the debugger for whoever starts one worker on a terminal."""

from __future__ import annotations

import http.client
import os
import pty
import select
import signal
import threading
import time

from conftest import ServerFactory
from http_client import Response
from server import START_TIMEOUT_S, TESTS, run_to_end, spawn_command
from test_process_life import eventually

APP = "apps.main_thread:app"


def test_what_only_the_main_thread_may_do_works_there(server_factory: ServerFactory) -> None:
    server = server_factory(APP, "-s1", "--main-thread")
    for path, answer in [("/", b"True 0"), ("/sqlite", b"42"), ("/signal", b"set"), ("/loop", b"42")]:
        assert server.get(path).body == answer, path
    assert server.get("/alarm").body == b"1", "a handler runs while the view waits"
    assert server.get("/later").body == b"later"
    eventually(lambda: server.get("/").body == b"True 2")


def test_reloads_and_stops_wait_for_the_request_that_runs(server_factory: ServerFactory) -> None:
    server = server_factory(APP, "-s1", "--main-thread")
    got: list[Response] = []
    for number in (signal.SIGHUP, signal.SIGTERM):
        visitor = threading.Thread(target=lambda: got.append(server.get("/slow")))
        visitor.start()
        # One that is only just connecting is waited for as well.
        time.sleep(0.2)
        server.signal(number)
        visitor.join()
    assert [response.status for response in got] == [200, 200]
    assert server.wait() == 0


def test_many_connections_are_answered_one_after_another(server_factory: ServerFactory) -> None:
    server = server_factory(APP, "-s1", "--main-thread")
    got: list[int] = []
    visitors = [
        threading.Thread(target=lambda: got.extend(server.get("/sqlite").status for _ in range(20)))
        for _ in range(8)
    ]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert got == [200] * 160
    server.stop()


def test_the_main_thread_is_one_thread() -> None:
    for words in (["--threads=2"], ["--green=gevent"]):
        ended = run_to_end("--main-thread", *words, APP)
        assert ended.returncode == 64
        assert "--main-thread" in ended.stderr


class Terminal:
    """A server that was started by a person at a terminal."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(TESTS)
            os.execv(spawn_command()[0], spawn_command("--port=0", "-l/dev/null", *arguments, APP))
        self.shown = ""

    def wait_for(self, text: str) -> str:
        """All that was shown, once that is in it."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while text not in self.shown and time.monotonic() < deadline:
            if select.select([self.fd], [], [], 0.1)[0]:
                self.shown += os.read(self.fd, 4096).decode(errors="replace")
        assert text in self.shown, self.shown
        return self.shown

    def type(self, line: str) -> None:
        self.shown = ""
        os.write(self.fd, line.encode() + b"\n")

    def end(self) -> None:
        os.kill(self.pid, signal.SIGQUIT)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


def breakpoint_opens_a_prompt(*arguments: str) -> None:
    terminal = Terminal(*arguments)
    try:
        port = int(terminal.wait_for("ready").split("http://127.0.0.1:")[1].split()[0])
        got: list[bytes] = []

        def visit() -> None:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=START_TIMEOUT_S)
            client.request("GET", "/stop")
            got.append(client.getresponse().read())

        visitor = threading.Thread(target=visit)
        visitor.start()
        terminal.wait_for("(Pdb)")
        terminal.type("p path * 2")
        terminal.wait_for("'/stop/stop'")
        terminal.type("c")
        visitor.join(START_TIMEOUT_S)
        assert got
    finally:
        terminal.end()


def test_breakpoint_opens_a_prompt_in_an_application_thread() -> None:
    breakpoint_opens_a_prompt("-s1", "-t1")


def test_breakpoint_opens_a_prompt_on_the_main_thread() -> None:
    breakpoint_opens_a_prompt("-s1", "--main-thread")
