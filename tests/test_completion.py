"""`--completion` teaches real shells, and `--man` is a page that real readers take without complaint."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import run_to_end

WAIT_S = 60.0
SHELLS = ["bash", "zsh", "fish"]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The script of each shell, in a file."""
    directory = tmp_path_factory.mktemp("completion")
    files = {}
    for shell in SHELLS:
        done = run_to_end("--completion", shell)
        assert (done.returncode, done.stderr) == (0, "")
        files[shell] = directory / shell
        files[shell].write_text(done.stdout)
    return files


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with something to complete to."""
    (tmp_path / "hello.py").touch()
    (tmp_path / "help me.toml").touch()
    (tmp_path / "mysite").mkdir()
    (tmp_path / "mysite" / "__init__.py").touch()
    (tmp_path / "mysite" / "wsgi.py").touch()
    (tmp_path / "notes").mkdir()
    return tmp_path


@pytest.mark.parametrize("shell", SHELLS)
def test_each_script_is_valid(scripts: dict[str, Path], shell: str) -> None:
    done = subprocess.run([shell, "-n", scripts[shell]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_shell_is_refused() -> None:
    done = run_to_end("--completion=tcsh")
    assert done.returncode == 64
    assert "tcsh" in done.stderr
    assert "bash, zsh or fish" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--thr"], {"--threads"}),
        (["-v", "--keepalive-t"], {"--keepalive-timeout"}),
        (["--reload", ""], {"dev"}),
        (["--reload", "=", "d"], {"dev"}),
        (["--completion", "="], {"bash", "zsh", "fish"}),
        (["--config", "help"], {"help me.toml"}),
        (["--chuid", "root"], {"root"}),
        (["--port", "8"], set()),
        (["h"], {"hello"}),
        (["-t", "4", "my"], {"mysite"}),
        (["mysite."], {"mysite.__init__", "mysite.wsgi"}),
        (["n"], set()),
    ],
)
def test_bash_completes(
    scripts: dict[str, Path], project: Path, words: list[str], expected: set[str]
) -> None:
    script = f"""
        source {scripts["bash"]}
        complete -p spawn spawning >&2
        COMP_WORDS=(spawn "$@") COMP_CWORD=$#
        _spawn
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-uc", script, "bash", *words], cwd=project, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("complete -F _spawn") == 2, done.stderr
    assert set(done.stdout.splitlines()) - {""} == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("spawn --thr", {"--threads"}),
        ("spawning --reload ", {"dev"}),
        ("spawn --chuid roo", {"root"}),
        ("spawn h", {"hello"}),
        ("spawn -t 4 my", {"mysite"}),
    ],
)
def test_fish_completes(scripts: dict[str, Path], project: Path, line: str, expected: set[str]) -> None:
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {scripts['fish']}; complete -C '{line}'"],
        cwd=project,
        env={**os.environ, "HOME": str(project)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {offer.split("\t")[0] for offer in done.stdout.splitlines()} == expected, done.stderr


@pytest.fixture
def zsh(project: Path) -> Iterator[int]:
    """The terminal of an interactive zsh."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(project)
        os.execvp("zsh", ["zsh", "-f", "-i"])
    yield terminal
    os.close(terminal)
    os.waitpid(pid, 0)


def typed(terminal: int, keys: str, wanted: str) -> None:
    """Type, and wait for what appears."""
    os.write(terminal, keys.encode())
    shown, deadline = "", time.monotonic() + WAIT_S
    while not re.search(wanted, shown):
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")


@pytest.mark.parametrize(
    ("line", "rest"), [("spawn --thr", "eads"), ("spawning --reload=", "dev"), ("spawn -t 4 hel", "lo")]
)
def test_zsh_completes(scripts: dict[str, Path], zsh: int, line: str, rest: str) -> None:
    typed(zsh, "PS1='% '; unsetopt zle_bracketed_paste\n", "% ")
    typed(zsh, f"autoload -Uz compinit && compinit -u -D && source {scripts['zsh']}; echo do''ne\n", "done")
    # A word that only completion can have put there, as the echo of the line is not the line.
    typed(zsh, f"echo {rest[0]}''{rest[1:]}; {line}\t", rf"{re.escape(line)}[^\n]*?{rest}")


def test_the_manual_page_has_every_option_and_no_fault(tmp_path: Path) -> None:
    done = run_to_end("--man")
    assert (done.returncode, done.stderr) == (0, "")
    page = tmp_path / "spawn.1"
    page.write_text(done.stdout)
    shown = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-c", "-P-b", "-P-u", page],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stderr == ""
    options = set(re.findall(r"--[a-z][a-z-]+", run_to_end("--help").stdout))
    assert len(options) > 30
    assert options <= set(re.findall(r"--[a-z][a-z-]+", shown.stdout.replace("-\n", "")))
    lint = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False
    )
    assert [line for line in lint.stdout.splitlines() if "missing date" not in line] == []
