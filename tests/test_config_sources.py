"""Where options come from: command line, environment, TOML file, default.

Which one counts, and how the faults of each are told.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import ServerFactory
from server import TESTS, run_to_end

EX_USAGE = 64
EX_SOFTWARE = 70


def printed(*arguments: str, cwd: Path = TESTS, **environment: str) -> dict[str, tuple[str, str]]:
    """What `--print-config` says: value and origin of each option."""
    ended = run_to_end("--print-config", *arguments, cwd=cwd, environment=environment)
    assert ended.returncode == 0, ended
    assert ended.stderr == ""
    table = {}
    for line in ended.stdout.splitlines():
        name, value, origin = line.split(maxsplit=2) if "  " in line else (line, "", "")
        table[name] = (value, origin)
    return table


def refusal(*arguments: str, cwd: Path = TESTS, **environment: str) -> list[str]:
    ended = run_to_end(*arguments, cwd=cwd, environment=environment)
    assert ended.returncode == EX_USAGE, ended
    assert ended.stdout == ""
    return ended.stderr.splitlines()


@pytest.fixture
def spawning_toml(tmp_path: Path) -> Path:
    path = tmp_path / "spawning.toml"
    path.write_text('app = "apps.hello:app"\nport = 0\nprocesses = 3\nthreads = 5\n')
    return path


def test_a_server_is_configured_by_variables_alone(server_factory: ServerFactory) -> None:
    server = server_factory(
        "apps.hello:app", environment={"SPAWN_PORT": "0", "SPAWN_PROCESSES": "2", "SPAWN_THREADS": "3"}
    )
    assert "2 processes x 3 threads" in server.stderr_text()
    assert server.get("/").body == b"Hello"


def test_a_server_is_configured_by_a_file_alone(server_factory: ServerFactory, spawning_toml: Path) -> None:
    server = server_factory(f"--config={spawning_toml}", environment={"SPAWN_PORT": "0"})
    assert "3 processes x 5 threads" in server.stderr_text()
    assert server.get("/").body == b"Hello"


def test_a_project_file_in_the_current_directory_is_read(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    (tmp_path / "site_module.py").write_text((TESTS / "apps" / "hello.py").read_text())
    (tmp_path / "pyproject.toml").write_text("[tool.spawning]\nprocesses = 1\nthreads = 7\nsysinfo = true\n")
    server = server_factory("site_module", cwd=tmp_path, environment={"PYTHONPATH": str(TESTS)})
    assert "1 process x 7 threads" in server.stderr_text()
    assert server.get("/_sysinfo").status == 200


def test_the_command_line_comes_first_then_the_environment_then_the_file(spawning_toml: Path) -> None:
    table = printed("-s9", f"--config={spawning_toml}", SPAWN_PROCESSES="8", SPAWN_THREADS="8")
    assert table["processes"] == ("9", "command line")
    assert table["threads"] == ("8", "SPAWN_THREADS")
    assert table["port"] == ("0", str(spawning_toml))
    assert table["queue"] == ("1024", "default")


def test_a_named_file_stands_in_for_the_project_file(spawning_toml: Path) -> None:
    (spawning_toml.parent / "pyproject.toml").write_text("[tool.spawning]\nqueue = 7\n")
    assert printed("x", cwd=spawning_toml.parent)["queue"] == ("7", "pyproject.toml")
    table = printed("x", "--config=spawning.toml", cwd=spawning_toml.parent)
    assert table["queue"] == ("1024", "default")
    assert table["processes"] == ("3", "spawning.toml")
    assert printed("x", cwd=spawning_toml.parent, SPAWN_CONFIG="spawning.toml")["processes"][0] == "3"


def test_a_project_file_without_our_table_is_nothing_to_us(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other]\nport = 70000\n")
    assert printed("x", cwd=tmp_path)["port"] == ("8080", "default")


def test_a_switch_of_the_file_is_switched_off_by_a_variable(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.spawning]\nno-keepalive = true\n")
    assert printed("x", cwd=tmp_path)["no-keepalive"] == ("true", "pyproject.toml")
    assert printed("x", cwd=tmp_path, SPAWN_NO_KEEPALIVE="0")["no-keepalive"] == (
        "false",
        "SPAWN_NO_KEEPALIVE",
    )


def test_a_fault_names_the_variable() -> None:
    fault, hint = refusal("x", SPAWN_PORT="70000")
    assert fault == "spawn: SPAWN_PORT: 70000 is too large, at most 65535"
    assert hint == "hint: choose a port from 0 to 65535, for example SPAWN_PORT=8080"


def test_a_fault_names_the_file_and_the_key(tmp_path: Path) -> None:
    (tmp_path / "spawning.toml").write_text("port = 70000\n")
    fault, hint = refusal("--config", "spawning.toml", "x", cwd=tmp_path)
    assert fault == "spawn: spawning.toml: port: 70000 is too large, at most 65535"
    assert hint.startswith("hint: ")


def test_an_overruled_fault_is_none(tmp_path: Path) -> None:
    """As with an option that is repeated: the value that does not count is not read."""
    (tmp_path / "spawning.toml").write_text("port = 70000\n")
    assert printed("-p80", "--config", "spawning.toml", "x", cwd=tmp_path)["port"] == ("80", "command line")


def test_an_unknown_variable_is_refused_with_a_suggestion() -> None:
    fault, hint = refusal("x", SPAWN_PROT="80")
    assert fault == "spawn: SPAWN_PROT: no such option"
    assert "did you mean SPAWN_PORT?" in hint


def test_an_unknown_key_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.spawning]\nthread = 4\n")
    fault, hint = refusal("x", cwd=tmp_path)
    assert fault == "spawn: pyproject.toml: thread: no such option"
    assert "did you mean threads?" in hint


def test_a_file_that_is_no_toml_is_refused_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "spawning.toml").write_text("port = 80\nthreads = = 4\n")
    fault, _ = refusal("--config=spawning.toml", "x", cwd=tmp_path)
    assert fault.startswith("spawn: spawning.toml: line 2: ")


def test_a_missing_file_is_refused() -> None:
    fault, _ = refusal("--config=no-such.toml", "x")
    assert fault.startswith('spawn: --config: "no-such.toml" cannot be read: ')


def test_print_config_shows_what_a_factory_sets() -> None:
    table = printed(
        "-f",
        "apps.factories.sets_options",
        "-t9",
        "x",
        SETTINGS='{"num_processes": 3, "threadpool_workers": 3}',
    )
    assert table["processes"] == ("3", "apps.factories.sets_options")
    assert table["threads"] == ("9", "command line")


def test_check_loads_the_application_without_serving() -> None:
    ended = run_to_end("--check", "apps.hello:app")
    assert ended.returncode == 0, ended
    assert ended.stderr == ""
    assert "listening" not in ended.stdout


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("apps.broken.raises:app", "RuntimeError: raised at import"),
        ("apps.hello:no_such", "no attribute 'no_such'"),
        ("apps.broken:not_callable", "not callable"),
    ],
)
def test_check_of_an_application_that_cannot_be_loaded_fails(app: str, message: str) -> None:
    ended = run_to_end("--check", app)
    assert ended.returncode == EX_SOFTWARE, ended
    assert message in ended.stderr


def test_check_of_a_wrong_option_fails() -> None:
    assert refusal("--check", "--port=70000", "apps.hello:app")[0].startswith("spawn: --port: 70000")
