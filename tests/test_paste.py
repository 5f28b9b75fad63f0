"""Paste ini files: served by `pserve` as `use = egg:Spawning`, and by `spawn` through the Paste factory."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import TESTS, Server, run_to_end

EX_USAGE = 64
EX_SOFTWARE = 70

FACTORY = "--factory=spawning.paste_factory.config_factory"
PSERVE = str(Path(sys.executable).with_name("pserve"))
ENVIRONMENT = {"PYTHONPATH": str(TESTS)}

INI = """\
[app:main]
paste.app_factory = apps.frameworks.pyramid_site:main
colour = blue

[app:other]
paste.app_factory = apps.frameworks.pyramid_site:main
colour = red

[server:main]
use = egg:Spawning
"""
LOGGING = """
[loggers]
keys = root

[handlers]
keys = file

[formatters]
keys = plain

[logger_root]
level = INFO
handlers = file

[handler_file]
class = FileHandler
args = ("%(here)s/site.log",)
formatter = plain

[formatter_plain]
format = logged %(message)s
"""


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    return int(port)


def ini(
    directory: Path, server: str = "port = 0\nnum_processes = 1\n", before: str = "", after: str = ""
) -> Path:
    """Write `development.ini`, with more for its `[server:main]` and more before and after all."""
    path = directory / "development.ini"
    path.write_text(before + INI + server + after)
    return path


def pserved(server_factory: ServerFactory, directory: Path, *words: str) -> Server:
    """`pserve development.ini`, with words of its own."""
    return server_factory(
        words[-1] if words else "development.ini",
        *(["development.ini", *words[:-1]] if words else []),
        cwd=directory,
        environment=ENVIRONMENT,
        program=[PSERVE],
    )


def spawned(server_factory: ServerFactory, directory: Path, *words: str) -> Server:
    """`spawn -f spawning.paste_factory.config_factory`, the port from the ini file."""
    return server_factory(
        words[-1],
        *words[:-1],
        cwd=directory,
        environment=ENVIRONMENT,
        program=[str(Path(sys.executable).with_name("spawn")), FACTORY],
    )


def settings(server: Server) -> dict[str, str]:
    """The settings that the application has from its ini file."""
    found = json.loads(server.get("/settings").body)
    assert isinstance(found, dict)
    return found


def test_run_whatever_is_configured_inside_of_the_paste_style_configuration_file(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    """The example of Spawning's manual, word for word."""
    ini(tmp_path)
    server = server_factory(
        "development.ini",
        "--factory=spawning.paste_factory.config_factory",
        cwd=tmp_path,
        environment={**ENVIRONMENT, "SPAWN_PORT": "0"},
    )
    assert server.get("/hello/you").body == b"Hello you"
    assert settings(server)["colour"] == "blue"


def test_pserve_runs_this_server(server_factory: ServerFactory, tmp_path: Path) -> None:
    ini(tmp_path)
    server = pserved(server_factory, tmp_path)
    assert "Spawning" in server.stderr_text()
    assert server.get("/hello/you").body == b"Hello you"
    assert settings(server)["colour"] == "blue"
    server.stop()


def test_pserve_leaves_no_application_in_the_supervisor(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    ini(tmp_path)
    server = pserved(server_factory, tmp_path)
    words = Path(f"/proc/{server.pid}/cmdline").read_text().split("\0")
    assert [word for word in words if word.endswith("/pserve")] == []
    assert "spawning" in words


@pytest.mark.parametrize(
    "start", [pserved, lambda *them: spawned(*them, "development.ini")], ids=["pserve", "spawn"]
)
def test_ini_sets_host_port_num_processes_and_threadpool_workers(
    server_factory: ServerFactory, tmp_path: Path, free_port: int, start: object
) -> None:
    ini(tmp_path, f"host = 127.0.0.3\nport = {free_port}\nnum_processes = 2\nthreadpool_workers = 6\n")
    assert callable(start)
    server = start(server_factory, tmp_path)
    assert server.address == ("127.0.0.3", free_port)
    assert "2 processes x 6 threads" in server.stderr_text()


@pytest.mark.parametrize(
    "start", [pserved, lambda *them: spawned(*them, "development.ini")], ids=["pserve", "spawn"]
)
def test_ini_sets_every_other_option_too(
    server_factory: ServerFactory, tmp_path: Path, start: object
) -> None:
    ini(
        tmp_path,
        "port = 0\nnum_processes = 1\nrequest_line_bytes_max = 1K\nsysinfo = true\nno_keepalive = false\n",
    )
    assert callable(start)
    server = start(server_factory, tmp_path)
    assert server.get("/" + "x" * 1024).status == 414
    assert server.get("/_sysinfo").status == 200
    assert server.request(b"GET /hello/x HTTP/1.1\r\nHost: x\r\n\r\n").header("Connection") is None


@pytest.mark.parametrize("start", [pserved, spawned], ids=["pserve", "spawn"])
def test_variables_of_the_command_line_reach_the_ini_file(
    server_factory: ServerFactory, tmp_path: Path, free_port: int, start: object
) -> None:
    ini(tmp_path, "port = %(http_port)s\nnum_processes = 1\n", before="[DEFAULT]\nshade = light\n")
    assert callable(start)
    words = ["shade=dark", f"http_port={free_port}"]
    server = start(server_factory, tmp_path, *(words if start is pserved else ["development.ini", *words]))
    assert server.address[1] == free_port
    assert settings(server)["shade"] == "dark"


def test_pserve_takes_another_server_section(
    server_factory: ServerFactory, tmp_path: Path, free_port: int
) -> None:
    other = (
        "\n[server:other]\nuse = egg:Spawning#main\n"
        f"port = {free_port}\nthreadpool_workers = 7\nnum_processes = 1\n"
    )
    ini(tmp_path, "port = 1\n", after=other)
    server = pserved(server_factory, tmp_path, "--server-name", "other")
    assert server.address[1] == free_port
    assert "1 process x 7 threads" in server.stderr_text()


def test_an_application_is_chosen_by_its_name(server_factory: ServerFactory, tmp_path: Path) -> None:
    ini(tmp_path)
    assert settings(spawned(server_factory, tmp_path, "development.ini#other"))["colour"] == "red"


def test_a_section_for_another_server_gives_host_and_port(
    server_factory: ServerFactory, tmp_path: Path, free_port: int
) -> None:
    ini(tmp_path).write_text(
        INI.replace("egg:Spawning", "egg:pyramid#wsgiref") + f"port = {free_port}\nthreads = many\n"
    )
    server = spawned(server_factory, tmp_path, "-s1", "development.ini")
    assert server.address[1] == free_port


def test_a_file_without_a_server_section_is_served(server_factory: ServerFactory, tmp_path: Path) -> None:
    ini(tmp_path).write_text(INI.partition("[server:main]")[0])
    assert settings(spawned(server_factory, tmp_path, "-p0", "-s1", "development.ini"))["colour"] == "blue"


def test_logging_is_set_up_as_pserve_does(server_factory: ServerFactory, tmp_path: Path) -> None:
    (tmp_path / "chatty.py").write_text(
        "import logging\n"
        "from apps.frameworks.pyramid_site import main as site\n"
        "def main(global_config, **settings):\n"
        "    logging.getLogger('chatty').info('loaded')\n"
        "    return site(global_config, **settings)\n"
    )
    path = ini(tmp_path, after=LOGGING)
    path.write_text(
        path.read_text().replace("apps.frameworks.pyramid_site:main\ncolour = blue", "chatty:main")
    )
    spawned(server_factory, tmp_path, "development.ini")
    assert "logged loaded" in (tmp_path / "site.log").read_text()


def test_the_command_line_overrules_the_ini_file(server_factory: ServerFactory, tmp_path: Path) -> None:
    ini(tmp_path, "port = 1\nnum_processes = 3\nthreadpool_workers = 2\n")
    server = spawned(server_factory, tmp_path, "-p0", "-s1", "development.ini")
    assert server.address[1] != 1
    assert "1 process x 2 threads" in server.stderr_text()


def test_a_wrong_value_names_the_ini_file(tmp_path: Path) -> None:
    ini(tmp_path, "port = 70000\n")
    ended = run_to_end(FACTORY, "development.ini", cwd=tmp_path, environment=ENVIRONMENT)
    assert ended.returncode == EX_USAGE
    assert ended.stderr.startswith(
        "spawn: development.ini [server:main]: port: 70000 is too large, at most 65535\n"
    )


@pytest.mark.parametrize(
    ("words", "text", "messages"),
    [
        (["missing.ini"], None, ["there is no file 'missing.ini'"]),
        (["development.ini", "debug"], None, ["'debug' is no variable", "key=value"]),
        (["development.ini"], "[app:main\n", ["'development.ini' cannot be read"]),
        (["development.ini"], "port = 1\n", ["'development.ini' cannot be read"]),
        (["development.ini"], "[app:main]\npaste.app_factory = no.such:app\n", ["'development.ini'", "'no'"]),
        (["development.ini"], "[server:main]\nuse = egg:Spawning\n", ["'development.ini'", "main"]),
        (["development.ini#no"], None, ["'development.ini'", "no"]),
    ],
)
def test_an_ini_file_that_cannot_be_served_ends_the_start(
    tmp_path: Path, words: list[str], text: str | None, messages: list[str]
) -> None:
    path = ini(tmp_path)
    if text is not None:
        path.write_text(text)
    ended = run_to_end("-p0", "-s1", FACTORY, *words, cwd=tmp_path, environment=ENVIRONMENT)
    assert ended.returncode == EX_SOFTWARE, ended
    for message in messages:
        assert message in ended.stderr
    assert ended.stderr.count("Traceback (most recent call last)") <= 1


def test_debug_is_asked_for_by_the_defaults_or_the_server_section(tmp_path: Path) -> None:
    """What the factory answers: reload on a change of the code, and in any case of the file itself."""
    question = {
        "factory": "spawning.paste_factory.config_factory",
        "options": {"args": ["development.ini"], "watch": [], "dev": False, "source_directories": []},
        "load": False,
    }

    def answer() -> dict[str, object]:
        asked = subprocess.run(
            [sys.executable, "-m", "spawning.evaluate"],
            input=json.dumps(question),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(asked.stdout)
        assert isinstance(found, dict)
        return found

    path = ini(tmp_path)
    assert "reload" not in answer()
    assert answer()["watch"] == [str(path)]
    ini(tmp_path, "debug = true\n")
    assert answer()["reload"] == "dev"
    ini(tmp_path, before="[DEFAULT]\ndebug = true\n")
    assert answer()["reload"] == "dev"
    ini(tmp_path, "set debug = false\n", before="[DEFAULT]\ndebug = true\n")
    assert "reload" not in answer()
