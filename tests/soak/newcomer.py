"""The tutorial as a newcomer does it: as a user of their own, in an empty directory, by the page alone.

From `python3 -m venv` to nginx with TLS in front of the service, every command and file is taken from
docs/tutorial.md. Only what depends on the machine is replaced: the package, /srv/mysite, ports, certificates.
`make newcomer` builds the wheel and runs this; as root, under an account made for it.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from ssl import CERT_NONE, SSLContext, create_default_context

import pytest

from server import TESTS
from test_tutorial import commands, section, write_files

ACCOUNT = "spawning-newcomer"
MINUTES_MAX = 10
WAIT_S = 60.0
STEP_S = 300.0
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def wheel() -> Path:
    """What `make newcomer` has built last."""
    directory = Path(os.environ.get("SPAWNING_WHEELS", TESTS.parent / "target" / "wheel"))
    built = sorted(directory.glob("[Ss]pawning-*.whl"), key=lambda path: path.stat().st_mtime)
    assert built, f"no wheel in {directory}: make newcomer builds one"
    return built[-1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Newcomer:
    """A user, their directory, and the shell they type into."""

    def __init__(self, name: str, home: Path) -> None:
        self.name = name
        self.home = home
        self.timings: list[tuple[str, float]] = []
        inherited = {key: value for key, value in os.environ.items() if re.match(r"PIP_|SSL_|\w+_CA_", key)}
        self.environment = {
            **inherited,
            "HOME": str(home),
            "PATH": SYSTEM_PATH,
            "LANG": "C.UTF-8",
            "PIP_CACHE_DIR": str(home / ".cache"),
        }

    def _shell(self, lines: list[str], **environment: str) -> subprocess.Popen[str]:
        """The lines, in one shell."""
        active = ". venv/bin/activate" if (self.home / "venv").exists() else ":"
        return subprocess.Popen(
            ["bash", "-euc", "\n".join([active, *lines])],
            cwd=self.home,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=self.name if os.geteuid() == 0 else None,
            group=pwd.getpwnam(self.name).pw_gid if os.geteuid() == 0 else None,
            extra_groups=[] if os.geteuid() == 0 else None,
            start_new_session=True,
        )

    def types(self, lines: list[str], **environment: str) -> str:
        """Type the lines and wait for their end."""
        start = time.monotonic()
        shell = self._shell(lines, **environment)
        printed, _ = shell.communicate(timeout=STEP_S)
        assert shell.returncode == 0, f"{lines}:\n{printed}"
        self.timings.append((lines[0], time.monotonic() - start))
        return printed

    @contextlib.contextmanager
    def leaves_running(self, line: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Start a server; at the end press Control-C, after which it must end well."""
        start = time.monotonic()
        shell = self._shell([f"exec {line}"], **environment)
        try:
            yield shell
            shell.send_signal(signal.SIGINT)
            printed, _ = shell.communicate(timeout=WAIT_S)
            assert shell.returncode == 0, printed
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
        self.timings.append((line, time.monotonic() - start))

    def owns(self, path: Path) -> None:
        """Give a file that the test wrote to the user."""
        if os.geteuid() == 0:
            shutil.chown(path, self.name)


@pytest.fixture
def newcomer() -> Iterator[Newcomer]:
    """An account without a past, if this is root; else the one that runs the test, in an empty directory."""
    is_root = os.geteuid() == 0
    name = ACCOUNT if is_root else getpass.getuser()
    home = Path(tempfile.mkdtemp(prefix="newcomer-"))
    if is_root:
        subprocess.run(["useradd", "--system", "--home-dir", home, "--shell", "/bin/bash", name], check=True)
        shutil.chown(home, name)
    try:
        yield Newcomer(name, home)
    finally:
        if is_root:
            subprocess.run(["userdel", name], check=True)
        shutil.rmtree(home)


def fetched(url: str, context: SSLContext | None = None) -> bytes:
    """The body, as soon as somebody answers with 200."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=WAIT_S, context=context) as response:
                body: bytes = response.read()
                return body
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_from_an_empty_directory_to_a_service_behind_nginx(newcomer: Newcomer) -> None:
    began = time.monotonic()
    home, port = newcomer.home, free_port()
    served = f"http://127.0.0.1:{port}"
    of_port = {"SPAWN_PORT": str(port)}

    # 1. Install
    package = home / wheel().name
    shutil.copy(wheel(), package)
    newcomer.owns(package)
    lines = [line.replace("Django Spawning", f"Django {package}") for line in commands(section(1))]
    assert newcomer.types(lines).splitlines()[-1].startswith("Spawning ")

    # 2. Something to serve
    write_files(section(2), home)
    (line,) = commands(section(2))
    with newcomer.leaves_running(line, **of_port):
        assert fetched(f"{served}/") == b"Hello\n"

    # 3. A Django project
    superuser = {f"DJANGO_SUPERUSER_{key}": "newcomer" for key in ("USERNAME", "PASSWORD")}
    lines = commands(section(3))
    serving = next(line for line in lines if line.startswith("spawn "))
    typed = [line for line in lines if not re.match(r"spawn |python manage.py spawn", line)]
    typed = [line.replace("createsuperuser", "createsuperuser --noinput") for line in typed]
    newcomer.types(typed, DJANGO_SUPERUSER_EMAIL="newcomer@example.org", **superuser)
    with newcomer.leaves_running(serving, **of_port):
        assert b"Django administration" in fetched(f"{served}/admin/login/")
        assert fetched(f"{served}/static/admin/css/base.css")

    # 4. Ready for production
    for name in write_files(section(4), home):
        newcomer.owns(home / name)
    assert "spawning.toml" in newcomer.types(commands(section(4)), **of_port)

    # 5. A service
    unit = re.search(r"```ini\n(.*?)```", section(5), re.DOTALL)
    assert unit
    text = unit[1].replace("/srv/mysite", str(home)).replace("User=mysite", f"User={newcomer.name}")
    command = run_as_systemd_would(newcomer, text)
    # 6. A proxy in front
    with newcomer.leaves_running(command, **of_port) as service, proxy(newcomer, port) as url:
        context = create_default_context()
        context.check_hostname, context.verify_mode = False, CERT_NONE
        assert b"Django administration" in fetched(f"{url}/admin/login/", context)
        assert fetched(f"{url}/static/admin/css/base.css", context)

        # 7. Deploy, again and again
        last = commands(section(7))[-1].replace("venv/bin/", "")
        check = last.partition(" && ")[0]
        assert last == f"{check} && systemctl reload mysite"
        newcomer.types(["set -a; . ./secret.env; set +a", check], **of_port)
        service.send_signal(signal.SIGHUP)
        assert b"Django administration" in fetched(f"{url}/admin/login/", context)

    seconds = time.monotonic() - began
    print()
    for line, took in newcomer.timings:
        print(f"{took:7.1f} s  {line[:90]}")
    print(f"{seconds:7.1f} s  in all")
    assert seconds < MINUTES_MAX * 60


def run_as_systemd_would(newcomer: Newcomer, text: str) -> str:
    """Have the unit verified where systemd is, and return what it starts."""
    unit = newcomer.home / "mysite.service"
    unit.write_text(text)
    if shutil.which("systemd-analyze"):
        done = subprocess.run(
            ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
        )
        complaints = [line for line in done.stderr.splitlines() if str(unit) in line or unit.name in line]
        assert (done.returncode, complaints) == (0, []), done.stderr
    started = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
    environment = re.search(r"^EnvironmentFile=(.*)$", text, re.MULTILINE)
    assert started
    assert environment
    return f"env $(cat {environment[1]}) {started[1]}"


@contextlib.contextmanager
def proxy(newcomer: Newcomer, port: int) -> Iterator[str]:
    """The nginx of the page, with a certificate made for the occasion."""
    server = re.search(r"```nginx\n(.*?)```", section(6), re.DOTALL)
    assert server
    home, tls_port = newcomer.home, free_port()
    with tempfile.TemporaryDirectory(prefix="newcomer-nginx-") as directory:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
                *("-subj", "/CN=www.example.org", "-keyout", f"{directory}/key", "-out", f"{directory}/crt"),
            ],
            check=True,
            capture_output=True,
        )
        text = server[1].replace("listen 443 ssl", f"listen 127.0.0.1:{tls_port} ssl")
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace("/srv/mysite", str(home))
        text = text.replace("/etc/ssl/www.example.org.crt", f"{directory}/crt")
        text = text.replace("/etc/ssl/private/www.example.org.key", f"{directory}/key")
        text = text.replace("server_name www.example.org", "server_name 127.0.0.1")
        text = text.replace("Host $host", "Host www.example.org")
        # The directory of the newcomer is closed to others, /srv/mysite is not.
        user = "user root;" if os.geteuid() == 0 else ""
        configuration = Path(directory, "nginx.conf")
        configuration.write_text(
            f"{user} daemon off; pid {directory}/pid; error_log stderr;\n"
            f"events {{}}\nhttp {{ include /etc/nginx/mime.types; access_log off;\n{text}}}\n"
        )
        nginx = subprocess.Popen(["nginx", "-c", configuration])
        try:
            yield f"https://127.0.0.1:{tls_port}"
        finally:
            nginx.terminate()
            nginx.wait(WAIT_S)
