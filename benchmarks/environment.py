"""The benchmark's own virtualenv and the programs of the system that it needs, installed where missing."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from .progress import Progress
    from .servers import Server

ROOT = Path(__file__).parent.parent
VENV = Path(__file__).parent / ".venv"
BASE_REQUIREMENTS = ("Django==5.2.19", "Flask==3.1.3", "matplotlib==3.10.8")
LOAD_TOOLS = {"wrk": "wrk", "ab": "apache2-utils", "taskset": "util-linux"}
"""Programs, and the Debian packages that bring them."""

TELLING = re.compile(r"Caused by:|^E: |\b(fatal )?error(\[E\d+\])?:", re.IGNORECASE)
"""The lines of a failed command's output that say why."""

BUILT_FROM = ("Cargo.toml", "Cargo.lock", "pyproject.toml", "src", "workers", "benchmarks/train.py")
"""What decides whether this repository has to be built again."""

BUILD = VENV / "spawning.build"
"""Of which sources Spawning was built, and how."""


class SetupError(Exception):
    """Something could not be installed; the message says what and what would mend it."""


def enter_virtualenv(progress: Progress) -> None:
    """Go on in the benchmark's virtualenv, made first if need be: replaces this process. No-op when in it."""
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    make_virtualenv(progress)
    command = [str(VENV / "bin" / "python"), "-m", "benchmarks", *sys.argv[1:]]
    os.chdir(ROOT)
    sys.stderr.flush()
    os.execv(command[0], command)


def make_virtualenv(progress: Progress) -> None:
    """Make the virtualenv, unless a complete one of this Python stands there."""
    stamp = VENV / "complete"
    wanted = "\n".join((sys.version, *BASE_REQUIREMENTS))
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if importlib.util.find_spec("ensurepip") is None:
        install_packages(["python3-venv"], progress)
    with progress.step(f"making {VENV.relative_to(ROOT)} with {', '.join(BASE_REQUIREMENTS)}"):
        run([sys.executable, "-m", "venv", "--clear", str(VENV)])
        pip_install(*BASE_REQUIREMENTS)
    stamp.write_text(wanted)


def install_load_tools(progress: Progress) -> None:
    """Install what sends the load; raises `SetupError`, as nothing can be measured without."""
    install_packages(
        [package for tool, package in LOAD_TOOLS.items() if shutil.which(tool) is None], progress
    )


def install(server: Server, progress: Progress) -> str | None:
    """Install a server; returns why it cannot take part, or `None` if it can."""
    try:
        if server.pin is None:
            install_packages(missing_packages(server.packages), progress)
            install_this_repository(progress)
        elif version_of(server.distribution) != server.pin:
            install_packages(missing_packages(server.packages), progress)
            with progress.step(f"installing {server.distribution}=={server.pin}"):
                pip_install(f"{server.distribution}=={server.pin}")
    except SetupError as error:
        return str(error)
    return None


def install_this_repository(progress: Progress) -> None:
    """Build and install this server in release mode, if its sources have changed since the last time."""
    sources = fingerprint(ROOT / name for name in BUILT_FROM)
    if BUILD.exists() and BUILD.read_text().startswith(sources):
        return
    trained = can_train()
    if not trained:
        progress.note(
            "building without a profile, some percent slower: `rustup component add llvm-tools` failed"
        )
    environment = {"CARGO_TARGET_DIR": str(ROOT / "target"), "MATURIN_PGO": "1" if trained else "0"}
    with progress.step("building Spawning as released (minutes)"):
        pip_install("--force-reinstall", str(ROOT), environment=environment)
    BUILD.write_text(f"{sources} {'trained' if trained else 'untrained'} release build")


def can_train() -> bool:
    """Whether the compiler can use a profile of the program's branches; installs what it needs for that."""
    if shutil.which("rustc") is None:
        return False
    asked = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=False)
    if any(Path(asked.stdout.strip()).glob("lib/rustlib/*/bin/llvm-profdata")):
        return True
    add = ["rustup", "component", "add", "llvm-tools"]
    return shutil.which("rustup") is not None and subprocess.run(add, check=False).returncode == 0


def build() -> str:
    """How the installed Spawning was built."""
    return BUILD.read_text().partition(" ")[2] if BUILD.exists() else "unknown"


def fingerprint(paths: Iterable[Path]) -> str:
    """Return a digest of the files at and below `paths`; what builds leave behind does not count."""
    digest = hashlib.sha256()
    for top in paths:
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix not in {".pyc", ".so"}:
                digest.update(f"{path}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def version_of(distribution: str) -> str | None:
    """Return the version installed in this virtualenv."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def missing_packages(packages: Sequence[str]) -> list[str]:
    """Return those Debian packages that are not installed, and that of Python's headers if need be."""
    missing = [package for package in packages if not package_is_installed(package)]
    if packages and not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing.append("python3-dev")
    return missing


def package_is_installed(package: str) -> bool:
    """Whether dpkg knows `package` as installed; false where there is no dpkg."""
    if shutil.which("dpkg-query") is None:
        return False
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"


def install_packages(packages: Sequence[str], progress: Progress) -> None:
    """Install Debian packages."""
    if not packages:
        return
    names = " ".join(packages)
    hint = f"install them by hand: {names}"
    if shutil.which("apt-get") is None:
        raise SetupError(f"needs the packages {names}, and there is no apt-get; {hint}")
    root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    if root and shutil.which("sudo") is None:
        raise SetupError(f"needs the packages {names}, and neither root nor sudo is at hand; {hint}")
    with progress.step(f"installing {names}"):
        run([*root, "apt-get", "update", "-q"], hint=hint)
        quiet = ["env", "DEBIAN_FRONTEND=noninteractive"]
        run([*root, *quiet, "apt-get", "install", "-qy", "--no-install-recommends", *packages], hint=hint)


def pip_install(*requirements: str, environment: Mapping[str, str] | None = None) -> None:
    """Install into the virtualenv."""
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run([*pip, *requirements], environment=environment)


def run(command: list[str], hint: str = "", environment: Mapping[str, str] | None = None) -> None:
    """Run a command; if it fails, raise `SetupError` with its last line and keep all of it in a log."""
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if result.returncode != 0:
        fail(command, result.stdout, hint)


def fail(command: list[str], output: str, hint: str) -> NoReturn:
    """Raise for a command that failed."""
    log = VENV / "failed.log"
    VENV.mkdir(exist_ok=True)
    log.write_text(f"$ {' '.join(command)}\n{output}")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [
        line for line in lines if TELLING.search(line) and not line.endswith("subprocess-exited-with-error")
    ]
    reason = (told or lines[-1:] or ["it failed"])[0].removeprefix("Caused by: ")
    raise SetupError(f"{reason} (all of it in {log.relative_to(ROOT)}){'; ' + hint if hint else ''}")
