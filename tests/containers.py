"""Containers of the machine's engine, in its default profile, made of the machine's own files.

Nothing is downloaded: the image is an empty tree, and this machine's `/usr`, Python and package are mounted
where they are. What a container is about, namespaces, limits, capabilities and the seccomp profile, is the
engine's.
"""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import uuid
from pathlib import Path
from types import TracebackType

import pytest

from http_client import Response
from load import Connection
from server import TESTS
from wire import CLOSE, HOST, message

TIMEOUT_S = 120.0
POLL_INTERVAL_S = 0.05
#: The image's name; it is made once a machine.
IMAGE = "spawning-test-empty"
FOLDERS = ("dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var", "var/tmp")
#: Where systems whose `/usr` is whole have links. The engine puts its init into `/sbin`.
LINKS = ("bin", "lib", "lib64")


def docker(*arguments: str, stdin: bytes = b"", check: bool = True) -> str:
    """Run the engine's client, and return what it prints."""
    done = subprocess.run(
        ["docker", *arguments], input=stdin, capture_output=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0 or not check, done.stderr.decode()
    return (done.stdout + done.stderr).decode().strip()


@functools.cache
def why_none() -> str | None:
    """Why there can be no container here."""
    if not shutil.which("docker"):
        return "docker is not installed"
    answered = subprocess.run(["docker", "info"], capture_output=True, timeout=TIMEOUT_S, check=False)
    return None if answered.returncode == 0 else "no container engine answers (docker info)"


@functools.cache
def empty_image() -> str:
    """The name of the empty image, made if there is none yet."""
    if docker("image", "ls", "--quiet", IMAGE):
        return IMAGE
    tree = io.BytesIO()
    with tarfile.open(fileobj=tree, mode="w") as archive:
        for folder in FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder.endswith("tmp") else 0o755
            archive.addfile(entry)
        for link in LINKS:
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{link}"
            archive.addfile(entry)
    docker("import", "-", IMAGE, stdin=tree.getvalue())
    return IMAGE


def machine_files() -> list[str]:
    """The options that show this machine's files in a container, read-only."""
    paths = {Path("/usr"), Path(sys.base_prefix), Path(sys.prefix), TESTS.parent}
    return [f"--volume={path}:{path}:ro" for path in sorted(paths)]


class Container:
    """A server in a container of the machine's files, on a port of the machine's network."""

    def __init__(self, options: list[str], arguments: list[str], app: str = "apps.hello:app") -> None:
        self.address = ("127.0.0.1", free_port())
        self.name = f"spawning-test-{uuid.uuid4().hex[:12]}"
        spawn = str(Path(sys.executable).parent / "spawn")
        docker(
            *("run", "--detach", f"--name={self.name}", "--network=host", f"--workdir={TESTS}"),
            *machine_files(),
            *options,
            *(empty_image(), spawn, f"--port={self.address[1]}", *arguments, app),
        )

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error:
            print(self.logs())
        docker("rm", "--force", "--volumes", self.name, check=False)

    def logs(self) -> str:
        """What it has printed so far."""
        return docker("logs", self.name)

    def wait_for_log(self, text: str) -> None:
        """Wait until it has printed `text`."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self.logs():
            assert time.monotonic() < deadline, f"{text!r} is not in\n{self.logs()}"
            assert self.state("Running"), f"ended before {text!r}\n{self.logs()}"
            time.sleep(POLL_INTERVAL_S)

    def wait_until_ready(self) -> None:
        """Wait until it accepts connections."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                socket.create_connection(self.address, 1).close()
                return
            except OSError:
                assert self.state("Running"), self.logs()
                assert time.monotonic() < deadline, self.logs()
                time.sleep(POLL_INTERVAL_S)

    def state(self, name: str) -> object:
        """An entry of the engine's record of its state: `Running`, `ExitCode`, `OOMKilled`."""
        return json.loads(docker("inspect", "--format={{json .State}}", self.name))[name]

    def processes(self) -> list[int]:
        """The numbers of its processes on this machine; the first is the supervisor's or the init's."""
        lines = docker("top", self.name, "-eo", "pid").splitlines()
        return sorted(int(line) for line in lines[1:])

    def get(self, path: str = "/") -> Response:
        """The response to GET `path` on a new connection."""
        with Connection(self.address) as connection:
            return connection.ask(message(f"GET {path} HTTP/1.1", HOST, CLOSE))

    def signal(self, name: str) -> None:
        """Send a signal to its first process."""
        docker("kill", f"--signal={name}", self.name)

    def stop(self) -> object:
        """Stop it as an orchestrator does, and return its exit status."""
        docker("stop", "--time=60", self.name)
        return self.state("ExitCode")


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def skip_without_engine() -> None:
    """Skip the test, and say why, where there is no engine to be had."""
    reason = why_none()
    if reason or os.geteuid() != 0:
        pytest.skip(reason or "only root may ask the container engine")
