"""Config factories: what they are called with, what they may set, where they run, how their faults are told.

The contract is the one of Spawning 0.9: a factory is called with a dict of options, and returns it with at
least `app_factory`.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import ServerFactory
from server import Server, run_to_end
from service import eventually, unprivileged

__all__ = ["unprivileged"]

EX_USAGE = 64
EX_SOFTWARE = 70

APPLICATION = """\
def my_wsgi_application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"my_wsgi_application"]
"""


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    return int(port)


def spawned(server_factory: ServerFactory, line: str, cwd: Path, **environment: str) -> Server:
    """Run a command line. The port, if it names none, comes from SPAWN_PORT."""
    _, *arguments, last = shlex.split(line)
    environment = {"SPAWN_PORT": "0", **environment}
    return server_factory(last, *arguments, cwd=cwd, environment=environment)


def shown(server: Server) -> dict[str, Any]:
    """The configuration that `apps.factories.showing` was called with."""
    config = json.loads(server.get("/").body)
    assert isinstance(config, dict)
    return config


# The positional arguments


def test_a_module_alone_means_its_application(server_factory: ServerFactory, tmp_path: Path) -> None:
    """`application` first, as PEP 3333 and Django call it."""
    assert server_factory("apps.named", "-s1").get("/").body == b"nothing"


def test_a_module_without_application_means_its_app(server_factory: ServerFactory) -> None:
    assert server_factory("apps.hello", "-s1").get("/").body == b"Hello"


def test_a_module_with_neither_is_told_what_was_looked_for() -> None:
    ended = run_to_end("--port=0", "-s1", "apps.gate")
    assert ended.returncode == EX_SOFTWARE
    assert "'apps.gate' has neither 'application' nor 'app'" in ended.stderr


def test_the_current_directory_is_put_on_sys_path(server_factory: ServerFactory, tmp_path: Path) -> None:
    (tmp_path / "my_wsgi_module.py").write_text(APPLICATION)
    factory = tmp_path / "my_factory.py"
    factory.write_text(
        "def config_factory(args):\n"
        "    return {**args, 'app_factory': 'my_factory.app_factory'}\n"
        "def app_factory(config):\n"
        "    from my_wsgi_module import my_wsgi_application\n"
        "    return my_wsgi_application\n"
    )
    server = spawned(server_factory, "spawn -s 1 -f my_factory.config_factory x", tmp_path)
    assert server.get("/").body == b"my_wsgi_application"


# The config factory contract


@pytest.mark.parametrize("option", ["-f", "--factory"])
def test_factory_is_called_with_the_options_by_their_old_names(
    server_factory: ServerFactory, option: str
) -> None:
    server = server_factory(
        "some.thing", "-s2", "-t3", "--deadman=7", "--no-keepalive", option, "apps.factories.shows_options"
    )
    options = shown(server)
    assert options["args"] == ["some.thing"]
    assert options["host"] == "127.0.0.1"
    assert options["num_processes"] == 2
    assert options["threadpool_workers"] == 3
    assert options["watch"] == []
    assert options["source_directories"] == []
    assert options["dev"] is False
    assert options["deadman_timeout"] == 7
    assert options["no_keepalive"] is True
    assert options["access_log_file"] == "-"
    assert options["sysinfo"] is False
    assert isinstance(options["port"], int)


def test_app_factory_is_called_with_what_the_config_factory_returned(server_factory: ServerFactory) -> None:
    assert shown(server_factory("x", "-s1", "-f", "apps.factories.shows_options"))["own"] == "key"


def test_app_factory_may_be_the_function_itself(server_factory: ServerFactory) -> None:
    server = server_factory("x", "-s1", "-f", "apps.factories.gives_a_callable")
    assert "function showing" in shown(server)["app_factory"]


def test_a_factory_sets_host_port_num_processes_and_threadpool_workers(
    server_factory: ServerFactory, free_port: int
) -> None:
    settings = {"host": "127.0.0.2", "port": free_port, "num_processes": 3, "threadpool_workers": 5}
    server = server_factory(
        "x",
        "--factory=apps.factories.sets_options",
        environment={"SETTINGS": json.dumps(settings)},
        program=[str(Path(sys.executable).with_name("spawn"))],
    )
    assert server.address == ("127.0.0.2", free_port)
    assert "3 processes x 5 threads" in server.stderr_text()
    assert {key: shown(server)[key] for key in settings} == settings


def test_a_factory_sets_any_option_by_its_name(server_factory: ServerFactory) -> None:
    settings = {"no_keepalive": True, "request_line_bytes_max": "1K"}
    server = server_factory(
        "x", "-s1", "-f", "apps.factories.sets_options", environment={"SETTINGS": json.dumps(settings)}
    )
    assert server.get("/" + "x" * 1024).status == 414
    kept = server.request(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert kept.header("Connection") == "close"


def test_the_command_line_overrules_a_factory(server_factory: ServerFactory) -> None:
    settings = {"port": 1, "num_processes": 3}
    server = server_factory(
        "x", "-s1", "-f", "apps.factories.sets_options", environment={"SETTINGS": json.dumps(settings)}
    )
    assert server.address[1] != 1
    assert "1 process x" in server.stderr_text()


def test_a_wrong_setting_of_a_factory_names_the_factory() -> None:
    ended = run_to_end(
        "-f", "apps.factories.sets_options", "x", environment={"SETTINGS": json.dumps({"port": 70000})}
    )
    assert ended.returncode == EX_USAGE
    assert ended.stderr.startswith(
        "spawn: apps.factories.sets_options: port: 70000 is too large, at most 65535\n"
    )
    assert "hint:" in ended.stderr


def test_no_user_code_ever_runs_in_the_supervisor(server_factory: ServerFactory, tmp_path: Path) -> None:
    """The factory is called once to learn its settings, and once in each worker: each has its own process."""
    calls = tmp_path / "calls"
    server = server_factory(
        "x", "-s2", "-f", "apps.factories.shows_options", environment={"CALLS_FILE": str(calls)}
    )
    pids = [int(line) for line in calls.read_text().split()]
    assert len(pids) == len(set(pids)) == 3
    assert server.pid not in pids
    assert "apps/factories" not in Path(f"/proc/{server.pid}/maps").read_text()


def test_a_factory_is_asked_as_the_user_whom_chuid_names(
    server_factory: ServerFactory, unprivileged: Path
) -> None:
    """Else code of the user would run as root, before the first worker does."""
    server = server_factory("x", "-s1", "-u54321:54322", "-f", "apps.factories.tells_its_user")
    who = {"users": [54321] * 3, "groups": [54322] * 3, "supplementary": [54322]}
    assert server.stderr_text().count(f"factory runs as {json.dumps(who)}") == 2


def test_a_user_that_cannot_be_is_named_before_a_factory_is_asked() -> None:
    ended = run_to_end("-p0", "-uno-such-user", "-f", "apps.factories.raises", "x")
    assert ended.returncode == EX_USAGE
    assert ended.stderr.startswith('spawn: --chuid: there is no user "no-such-user"\nhint: ')


def test_what_the_server_was_started_with_is_not_the_factorys(server_factory: ServerFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd = listening.fileno()
        server = server_factory(
            *["x", "-s1", f"-bfd://{fd}", "-f", "apps.factories.tells_what_it_inherits"],
            environment={"NOTIFY_SOCKET": "@nobody-listens", "LISTEN_FDS": "0"},
            pass_fds=[fd],
        )
        # The first to tell is the one that is asked before the start; the other is a worker.
        assert "factory inherits 0 sockets, []" in server.stderr_text().splitlines()[0]


def test_the_default_factory_is_not_asked_before_the_start(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    """It sets nothing: no start pays for a process whose answer is known."""
    starts = tmp_path / "starts"
    server_factory("apps.processes:app", "-s2", environment={"STARTS_FILE": str(starts)})
    assert len(starts.read_text().splitlines()) == 2


def test_a_factory_is_evaluated_again_for_each_generation(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    """0.9 imported it once into the controller, so that a reload kept stale settings."""
    factory = tmp_path / "my_factory.py"

    def write(text: str) -> None:
        factory.write_text(
            "def config_factory(args):\n"
            f"    return {{**args, 'app_factory': 'my_factory.app_factory', 'text': {text!r}}}\n"
            "def app_factory(config):\n"
            "    def application(environ, start_response):\n"
            "        start_response('200 OK', [])\n"
            "        return [config['text'].encode()]\n"
            "    return application\n"
        )

    write("before")
    # A size that differs is not left to chance: Python's cache of byte code goes by size and second.
    server = spawned(
        server_factory, "spawn -s1 -f my_factory.config_factory x", tmp_path, PYTHONDONTWRITEBYTECODE="1"
    )
    assert server.get("/").body == b"before"
    write("after the reload")
    server.signal(signal.SIGHUP)
    server.wait_for_log("a new generation serves")
    # The old generation may still take a connection in the moment in which it is told to drain.
    assert eventually(lambda: server.get("/").body == b"after the reload")


def test_what_a_factory_prints_does_not_spoil_its_answer(server_factory: ServerFactory) -> None:
    server = server_factory("x", "-s1", "-f", "apps.factories.gives_a_callable")
    assert "printed by the factory" in server.stderr_text()


def test_a_thread_that_a_factory_leaves_behind_does_not_keep_the_server_from_starting(
    server_factory: ServerFactory,
) -> None:
    assert shown(server_factory("x", "-s1", "-f", "apps.factories.leaves_a_thread"))["own"] == "key"


@pytest.mark.parametrize(
    ("factory", "messages"),
    [
        ("apps.factories.raises", ["RuntimeError: raised by the factory", "Traceback", "factories.py"]),
        ("apps.factories.returns_nothing", ["must return a dict", "app_factory"]),
        ("apps.factories.names_no_app_factory", ["must return a dict", "app_factory"]),
        ("apps.factories.names_a_missing_app_factory", ["no attribute 'no_such'"]),
        ("apps.factories.no_such", ["no attribute 'no_such'"]),
        ("no_such_package.config_factory", ["no module named 'no_such_package'"]),
        ("apps.factories.dies", ["apps.factories.dies", "SIGSEGV"]),
        ("apps.factories.answers_too_much", ["apps.factories.answers_too_much", "too long"]),
    ],
)
def test_a_factory_that_fails_ends_the_start_before_anything_is_bound(
    free_port: int, factory: str, messages: list[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        # Were the address bound first, the complaint would be that it is taken.
        check = ["--check"] if "app_factory" in factory else []
        ended = run_to_end(f"--port={free_port}", "-s2", *check, "-f", factory, "x")
    assert ended.returncode == EX_SOFTWARE, ended
    for message in messages:
        assert message in ended.stderr
    assert ended.stderr.count("Traceback (most recent call last)") <= 1
    assert "evaluate.py" not in ended.stderr


def test_a_factory_that_hangs_is_ended_after_the_start_timeout() -> None:
    ended = run_to_end("--port=0", "--start-timeout=1.5", "-f", "apps.factories.hangs", "x")
    assert ended.returncode == EX_SOFTWARE
    assert "'apps.factories.hangs'" in ended.stderr.replace('"', "'")
    assert "within 1.5 s" in ended.stderr


def test_an_interrupt_during_a_factory_ends_the_start_quietly(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    server = server_factory(
        "x", "-f", "apps.factories.hangs", environment={"CALLS_FILE": str(calls)}, wait=False
    )
    while not calls.exists():
        os.sched_yield()
    # As a terminal does: to the whole group.
    os.killpg(server.pid, signal.SIGINT)
    assert server.wait() in (-signal.SIGINT, 130)
    assert "Traceback" not in server.stderr_text()
    assert not server.processes()


# --sysinfo


def test_sysinfo_answers_with_platform_facts_as_json(server_factory: ServerFactory) -> None:
    server = server_factory("apps.hello:app", "-s1", "--sysinfo")
    answer = server.get("/_sysinfo")
    assert (answer.status, answer.header("Content-Type")) == (200, "application/json")
    facts = json.loads(answer.body)
    assert facts["python_version"] == sys.version.split()[0]
    assert facts["machine"] == os.uname().machine
    assert facts["release"] == os.uname().release
    assert facts["pid"] in server.processes()
    assert server.get("/").body == b"Hello"
    assert server.request(b"POST /_sysinfo HTTP/1.0\r\nContent-Length: 0\r\n\r\n").status == 405


def test_without_sysinfo_the_path_is_the_applications(server_factory: ServerFactory) -> None:
    assert server_factory("apps.hello:app", "-s1").get("/_sysinfo").body == b"Hello"


def test_sysinfo_works_with_every_factory(server_factory: ServerFactory) -> None:
    server = server_factory("x", "-s1", "--sysinfo", "-f", "apps.factories.shows_options")
    assert json.loads(server.get("/_sysinfo").body)["python_implementation"] == "CPython"
    assert shown(server)["own"] == "key"
