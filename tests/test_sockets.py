"""The sockets a server listens on: unix, IPv6, several, inherited ones, and how they begin and end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import read_response, run_to_end
from service import eventually, listens, open_files, unix_get, unix_request, unprivileged
from wire import message

__all__ = ["unprivileged"]

EX_USAGE = 64
EX_UNAVAILABLE = 69


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a unix socket may be."""
    return tmp_path / "http.sock"


@pytest.fixture
def name() -> str:
    """A name in the abstract namespace that nobody else has."""
    return f"spawning-test-{os.getpid()}-{os.urandom(4).hex()}"


def tcp_get(host: str, port: int) -> bytes:
    """The body that GET / has there."""
    with socket.create_connection((host, port), 60) as connection, connection.makefile("rb") as stream:
        connection.sendall(message("GET / HTTP/1.1", "Host: localhost"))
        return read_response(stream).body


# === Addresses ===


def test_a_unix_socket_serves_and_is_gone_afterwards(server_factory: ServerFactory, path: Path) -> None:
    server = server_factory("apps.hello:app", "-s2", f"--bind=unix:{path}")
    server.wait_for_log(rf"^listening on unix:{path}$")
    for _ in range(20):
        assert unix_get(path).body == b"Hello"
    server.stop()
    assert not path.exists()


def test_several_addresses_are_served_at_once(server_factory: ServerFactory, path: Path, name: str) -> None:
    server = server_factory(
        "apps.hello:app", "-s1", "-p0", "-b", f"unix:{path}", "-b", f"unix:@{name}", "-b[::1]:0", "-b", ":0"
    )
    line = server.wait_for_log(r"^listening on (.*)$")[1]
    v4, unix, abstract, v6, every = line.split(", ")
    assert (unix, abstract) == (f"unix:{path}", f"unix:@{name}")
    assert v4.startswith("http://127.0.0.1:")
    assert v6.startswith("http://[::1]:")
    assert every.startswith("http://0.0.0.0:")
    assert unix_get(path).body == unix_get(f"\0{name}").body == b"Hello"
    for url in (v4, v6, every):
        host, _, port = url.removeprefix("http://").rpartition(":")
        assert tcp_get(host.strip("[]"), int(port)) == b"Hello"


def test_keep_alive_pipelining_and_large_bodies_work_over_a_unix_socket(
    server_factory: ServerFactory, path: Path
) -> None:
    server_factory("apps.calls:app", "-s1", f"-bunix:{path}", "-l/dev/null")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        with connection.makefile("rb") as stream:
            for size in (1, 100_000, 5_000_000):
                request = message(f"GET /sized?{size} HTTP/1.1", "Host: localhost")
                connection.sendall(request * 2)
                for _ in range(2):
                    assert len(read_response(stream).body) == size


def test_the_access_log_has_a_dash_for_a_peer_without_address(
    server_factory: ServerFactory, path: Path
) -> None:
    server = server_factory("apps.hello:app", "-s1", f"-bunix:{path}")
    unix_get(path, "/x")
    server.wait_for_log(r'^- - - \[[^]]+\] "GET /x HTTP/1.1" 200 5 ')


def test_an_application_finds_every_address_variable(server_factory: ServerFactory, path: Path) -> None:
    """PEP 3333 demands SERVER_NAME and SERVER_PORT to be there and not empty, CGI the REMOTE_ADDR."""
    server_factory("apps.environ:app", "-s1", f"-bunix:{path}")
    values = json.loads(unix_get(path).body)["values"]
    found = {key: values[key]["value"] for key in ("SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR")}
    assert found == {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "REMOTE_ADDR": ""}
    assert "REMOTE_PORT" not in values


def test_django_copes_with_a_peer_without_address(server_factory: ServerFactory, path: Path) -> None:
    server_factory("apps.django_meta:app", "-s1", f"-bunix:{path}")
    named = json.loads(unix_get(path, "/meta", "Host: example.org").body)
    assert named == {"remote": "", "host": "example.org", "port": "80", "url": "http://example.org/there"}
    nameless = json.loads(unix_request(path, message("GET /meta HTTP/1.0")).body)
    assert nameless == {"remote": "", "host": "localhost", "port": "80", "url": "http://localhost/there"}
    page = unix_get(path, "/raises", "Accept: text/html")
    assert page.status == 500
    assert b"on purpose" in page.body
    assert b"REMOTE_ADDR" in page.body


def test_a_reload_over_a_unix_socket_loses_no_request(server_factory: ServerFactory, path: Path) -> None:
    server = server_factory("apps.hello:app", "-s2", f"-bunix:{path}", "-l/dev/null")
    inode = path.stat().st_ino
    done = threading.Event()

    def load() -> set[bytes]:
        answers = set()
        while not done.is_set():
            answers.add(unix_get(path).body)
        return answers

    with ThreadPoolExecutor(4) as clients:
        loads = [clients.submit(load) for _ in range(4)]
        try:
            for generation in (2, 3):
                server.signal(signal.SIGHUP)
                server.wait_for_log(f"generation={generation}")
        finally:
            done.set()
        assert [load.result() for load in loads] == [{b"Hello"}] * 4
    assert path.stat().st_ino == inode


# === The file of a unix socket ===


@pytest.mark.parametrize(
    ("arguments", "mode"), [([], 0o660), (["--unix-mode=0600"], 0o600), (["--unix-mode", "777"], 0o777)]
)
def test_the_file_has_the_mode_it_shall_have(
    server_factory: ServerFactory, path: Path, arguments: list[str], mode: int
) -> None:
    server_factory("apps.hello:app", "-s1", f"-bunix:{path}", *arguments)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_file_belongs_to_whom_it_shall(server_factory: ServerFactory, path: Path) -> None:
    server_factory("apps.hello:app", "-s1", f"-bunix:{path}", "--unix-owner=nobody:54321")
    found = path.stat()
    assert (path.owner(), found.st_gid) == ("nobody", 54321)


def test_a_file_that_cannot_be_given_away_is_an_error(unprivileged: Path) -> None:
    path = unprivileged / "http.sock"
    ended = run_to_end(
        f"-bunix:{path}",
        "--unix-owner=root",
        "apps.hello:app",
        wrapper=["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"],
    )
    assert ended.returncode == EX_UNAVAILABLE, ended
    assert f"spawn: cannot listen on unix:{path}: it cannot be given to its owner" in ended.stderr
    assert "hint: only root" in ended.stderr
    assert not path.exists()


def test_the_file_of_a_dead_server_is_replaced(server_factory: ServerFactory, path: Path) -> None:
    server = server_factory("apps.hello:app", "-s1", f"-bunix:{path}")
    server.kill()
    assert path.is_socket()
    assert not listens(path)
    server_factory("apps.hello:app", "-s1", f"-bunix:{path}")
    assert unix_get(path).body == b"Hello"


def test_a_living_server_keeps_its_socket(server_factory: ServerFactory, path: Path) -> None:
    server = server_factory("apps.hello:app", "-s1", f"-bunix:{path}")
    ended = run_to_end(f"-bunix:{path}", "apps.hello:app")
    assert ended.returncode == EX_UNAVAILABLE, ended
    assert f"spawn: cannot listen on unix:{path}: another process listens there" in ended.stderr
    assert f"hint: see which: ss -xlp src {path}" in ended.stderr
    assert unix_get(path).body == b"Hello"
    server.stop()


def test_a_socket_that_another_server_has_replaced_is_left_alone(
    server_factory: ServerFactory, path: Path
) -> None:
    first = server_factory("apps.hello:app", "-s1", f"-bunix:{path}")
    path.unlink()
    server_factory("apps.hello:app", "-s1", f"-bunix:{path}")
    first.stop()
    assert unix_get(path).body == b"Hello"


def test_a_file_that_is_no_socket_is_never_removed(path: Path) -> None:
    path.write_text("precious")
    ended = run_to_end(f"-bunix:{path}", "apps.hello:app")
    assert ended.returncode == EX_UNAVAILABLE, ended
    assert "the file exists and is not a socket" in ended.stderr
    assert path.read_text() == "precious"


def test_a_start_that_fails_leaves_no_file(path: Path) -> None:
    assert run_to_end(f"-bunix:{path}", "-s1", "apps.broken.raises:app").returncode == 70
    assert not path.exists()


def test_an_abstract_name_that_is_taken_is_named(server_factory: ServerFactory, name: str) -> None:
    server_factory("apps.hello:app", "-s1", f"-bunix:@{name}")
    ended = run_to_end(f"-bunix:@{name}", "apps.hello:app")
    assert ended.returncode == EX_UNAVAILABLE, ended
    assert f"cannot listen on unix:@{name}: " in ended.stderr
    assert "hint: " in ended.stderr


# === Inherited sockets ===


@contextlib.contextmanager
def listening(family: socket.AddressFamily = socket.AF_INET) -> Iterator[socket.socket]:
    """A socket that listens, blocking as a careless parent leaves it."""
    with socket.socket(family) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener


#: Starts a command as systemd does: with a socket as descriptor 3, announced to a process id or to its own.
ACTIVATE = """
import os, sys
number, pid, names, *command = sys.argv[1:]
os.dup2(int(number), 3)
os.environ.update(LISTEN_PID=pid or str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES=names)
os.execv(command[0], command)
"""


def passing(number: int, pid: str = "", names: str = "web") -> list[str]:
    """A wrapper that hands over one descriptor as systemd does, to `pid` or to the command itself."""
    return [sys.executable, "-c", ACTIVATE, str(number), pid, names]


def test_a_listening_descriptor_is_served(server_factory: ServerFactory) -> None:
    with listening() as listener:
        number = listener.fileno()
        server = server_factory("apps.hello:app", "-s2", f"--bind=fd://{number}", pass_fds=[number])
        assert server.address == listener.getsockname()
        assert server.get("/").body == b"Hello"
        server.stop()
        # It is the parent's: still open, and still listening.
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


@pytest.mark.parametrize("kind", ["closed", "file", "datagram", "unbound"])
def test_a_descriptor_that_cannot_be_listened_on_is_told_apart(kind: str, tmp_path: Path) -> None:
    fault = {
        "closed": "it is not open",
        "file": "it is not a socket",
        "datagram": "it is a socket for datagrams",
        "unbound": "listen(2) was not called on it",
    }[kind]
    with (
        (tmp_path / "file").open("w") as file,
        socket.socket(type=socket.SOCK_DGRAM) as datagram,
        socket.socket() as unbound,
    ):
        numbers = {"file": file.fileno(), "datagram": datagram.fileno(), "unbound": unbound.fileno()}
        number = numbers.get(kind, 1000)
        pass_fds = [number] if kind in numbers else []
        ended = run_to_end(f"--bind=fd://{number}", "apps.hello:app", pass_fds=pass_fds)
    assert ended.returncode == EX_USAGE, ended
    message, hint = ended.stderr.splitlines()
    assert message.startswith(f"spawn: --bind: fd://{number} cannot be listened on: ")
    assert fault in message
    assert hint.startswith("hint: ")


def test_sockets_of_systemd_take_the_place_of_the_default(server_factory: ServerFactory) -> None:
    with listening() as listener:
        number = listener.fileno()
        server = server_factory(
            "apps.identity:app", "-s1", wrapper=passing(number), pass_fds=[number], port=False
        )
        assert server.wait_for_log("^listening on (.*)$")[1] == server.url
        assert server.address == listener.getsockname()
        assert server.get("/variables").body == b"{}"


def test_a_socket_of_systemd_stands_for_its_address(server_factory: ServerFactory, path: Path) -> None:
    """A server that binds it in one place and is given it in another needs no other options."""
    with listening() as listener:
        host, port = listener.getsockname()
        number = listener.fileno()
        server = server_factory(
            "apps.hello:app",
            "-s1",
            f"-bunix:{path}",
            f"-b{host}:{port}",
            wrapper=passing(number),
            pass_fds=[number],
        )
        assert server.wait_for_log("^listening on (.*)$")[1] == f"unix:{path}, http://{host}:{port}"
        assert tcp_get(host, port) == unix_get(path).body == b"Hello"


def test_sockets_for_another_process_are_left_alone(server_factory: ServerFactory) -> None:
    with listening() as listener:
        number = listener.fileno()
        server = server_factory("apps.hello:app", "-s1", wrapper=passing(number, "1"), pass_fds=[number])
        assert server.address != listener.getsockname()
        assert server.get("/").body == b"Hello"


def test_a_socket_of_systemd_that_is_none_is_named() -> None:
    with Path(__file__).open() as file:
        number = file.fileno()
        ended = run_to_end("apps.hello:app", wrapper=passing(number), pass_fds=[number])
    assert ended.returncode == EX_UNAVAILABLE, ended
    assert 'LISTEN_FDS: descriptor 3 ("web") cannot be listened on: it is not a socket' in ended.stderr


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd is not installed")
def test_systemd_itself_can_hand_the_socket_over(server_factory: ServerFactory, path: Path) -> None:
    """The first connection starts the server, and is served."""
    wrapper = ["systemd-socket-activate", f"--listen={path}"]
    server = server_factory("apps.hello:app", "-s1", "-v", wrapper=wrapper, wait=False, port=False)
    assert eventually(path.is_socket)
    assert unix_get(path).body == b"Hello"
    server.wait_for_log(rf"^listening on unix:{path}$")


# === Descriptors ===


def test_workers_inherit_listeners_and_no_other_descriptor(server_factory: ServerFactory, path: Path) -> None:
    server = server_factory("apps.hello:app", "-s1", "-p0", f"-bunix:{path}", "-l/dev/null")
    inode_of = {}
    for line in Path("/proc/net/unix").read_text().splitlines():
        if line.endswith(str(path)):
            inode_of["unix"] = line.split()[6]
    (worker,) = [process for process in server.processes() if process != server.pid]
    links = open_files(worker)
    assert f"socket:[{inode_of['unix']}]" in links
    listeners = open_files(server.pid)
    shared = {link for link in links if link in listeners and link.startswith("socket:")}
    # The two listeners; the ends of a control socket are two sockets.
    assert len(shared) == 2, (links, listeners)


def test_connections_may_be_more_than_the_application_may_open_files(server_factory: ServerFactory) -> None:
    wrapper = ["prlimit", "--nofile=300:3000"]
    server = server_factory("apps.hello:app", "-s1", wrapper=wrapper)
    for process in server.processes():
        limits = Path(f"/proc/{process}/limits").read_text()
        (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
        assert line.split()[3:5] == ["300", "3000"]
    with contextlib.ExitStack() as connections:
        for _ in range(400):
            connections.enter_context(server.connect())
        assert server.get("/").body == b"Hello"


# === Words ===


@pytest.mark.parametrize(
    ("arguments", "flag", "fault"),
    [
        (["--bind=localhost"], "--bind", "a port is missing"),
        (["--bind=:65536"], "--bind", "at most 65535"),
        (["--bind=::1:80"], "--bind", "needs brackets"),
        (["--bind=unix:"], "--bind", "the path is empty"),
        (["--bind=unix:/no/such/directory/http.sock"], "--bind", "no directory"),
        (["--bind=unix:@" + "x" * 108], "--bind", "at most 107"),
        (["--bind=fd://2"], "--bind", "at least 3"),
        (["-b", "unix:@x", "-b", "unix:@x"], "--bind", "bound already by unix:@x"),
        ([f"-bunix:@{index}" for index in range(65)], "--bind", "at most 64"),
        (["--unix-mode=1777"], "--unix-mode", "at most 0777"),
        (["--unix-mode=rw"], "--unix-mode", "octal"),
        (["--unix-owner=:x"], "--unix-owner", "the user is missing"),
        (["--unix-owner=no-such-user"], "--unix-owner", "no user"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_a_wrong_address_is_named_with_its_fault(arguments: list[str], flag: str, fault: str) -> None:
    ended = run_to_end(*arguments, "apps.hello:app")
    assert ended.returncode == EX_USAGE, ended
    fault_line, hint = ended.stderr.splitlines()
    assert fault_line.startswith(f"spawn: {flag}: ")
    assert fault in fault_line
    assert hint.startswith("hint: ")


def test_a_unix_socket_in_a_directory_that_is_closed_is_explained(unprivileged: Path) -> None:
    unprivileged.chmod(0o755)
    path = unprivileged / "http.sock"
    wrapper = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    ended = run_to_end(f"-bunix:{path}", "apps.hello:app", wrapper=wrapper)
    assert ended.returncode == EX_UNAVAILABLE, ended
    assert f"cannot listen on unix:{path}: Permission denied" in ended.stderr
    assert f"chown USER {unprivileged}" in ended.stderr
