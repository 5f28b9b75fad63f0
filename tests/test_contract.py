"""What Spawning 0.9 promised, row by row: options, behaviour, and the faults that must not come back.

Each test is named after its promise. Where a promise has tests of its own elsewhere, the one here is
short, yet it asks a server that runs. The command lines of the manual are in `test_examples.py`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

import versions
from conftest import ServerFactory
from load import Load
from server import TESTS, Server, run_to_end
from service import Daemon, open_files, status, unix_get, unprivileged
from test_backdoor import said, sockets
from test_coverage import measured
from test_paste import ENVIRONMENT, ini
from test_process_life import accepting, eventually, held_request, workers
from test_status import CHILD_KEYS_OF_0_9, KEYS_OF_0_9, serving
from versions import APP

__all__ = ["unprivileged"]

EX_USAGE = 64
BIN = Path(sys.executable).parent
CONTRACT = "apps.contract.app"
PROCESSES = "apps.processes:app"
TROUBLE = "apps.trouble:app"
SERVES = r"a new generation serves.*generation={}"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with an application whose code can be changed."""
    versions.write(tmp_path, "v1")
    return tmp_path


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return int(reserved.getsockname()[1])


def facts(server: Server) -> dict[str, Any]:
    """What `apps.contract` says."""
    found = json.loads(server.get("/").body)
    assert isinstance(found, dict)
    return found


def options(*arguments: str) -> dict[str, str]:
    """Every option and its value as `--print-config` tells them."""
    ended = run_to_end("--print-config", *arguments)
    assert ended.returncode == 0, ended.stderr
    rows = (re.split(r"\s{2,}", line) for line in ended.stdout.splitlines())
    return {row[0]: row[1] for row in rows if len(row) > 1}


def serves(server: Server, body: str) -> bool:
    return eventually(lambda: server.get("/").body == body.encode())


# === Options ===


def test_option_positional_application_then_middleware_in_order(server_factory: ServerFactory) -> None:
    """The last argument of a server in a test is its last word."""
    server = server_factory("apps.middleware.second", "-s1", "apps.middleware.app", "apps.middleware.first")
    assert server.get("/").body == b"second first "


def test_option_positional_with_a_colon(server_factory: ServerFactory) -> None:
    assert facts(server_factory("apps.contract:app", "-s1"))["pid"]


def test_command_spawning_is_an_alias(server_factory: ServerFactory) -> None:
    server = server_factory(CONTRACT, "--port=0", "-s1", program=[str(BIN / "spawning")])
    assert facts(server)["pid"] in server.processes()


@pytest.mark.parametrize("spelling", ["-f", "--factory"])
def test_option_f_factory(server_factory: ServerFactory, spelling: str) -> None:
    server = server_factory("anything", "-s1", spelling, "apps.factories.shows_options")
    assert json.loads(server.get("/").body)["own"] == "key"
    assert options(CONTRACT)["factory"] == "spawning.wsgi_factory.config_factory"


def test_option_i_host_and_p_port(server_factory: ServerFactory, free_port: int) -> None:
    server = server_factory(CONTRACT, "-s1", "-i", "127.0.0.2", "-p", str(free_port))
    assert server.address == ("127.0.0.2", free_port)
    assert facts(server)["pid"]
    found = options(CONTRACT)
    assert (found["host"], found["port"]) == ("127.0.0.1", "8080")


def test_option_s_processes(server_factory: ServerFactory) -> None:
    server = server_factory(CONTRACT, "-s", "3")
    assert len(workers(server, 3)) == 3
    assert facts(server)["multiprocess"] is True


def test_option_s_processes_is_one_per_cpu_by_default(server_factory: ServerFactory) -> None:
    server = server_factory(CONTRACT, wrapper=["taskset", "-c", str(min(os.sched_getaffinity(0)))])
    assert len(workers(server, 1)) == 1
    assert facts(server)["multiprocess"] is False


def test_option_t_threads(server_factory: ServerFactory) -> None:
    """As many requests as there are threads meet in the application."""
    server = server_factory("apps.green:app", "-s1", "-t", "3")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(3)]
        for client in clients:
            client.sendall(b"GET /together?3 HTTP/1.0\r\n\r\n")
        for client in clients:
            assert client.makefile("rb").read().endswith(b"together")
    assert options(CONTRACT)["threads"] == "4"


def test_option_t_0_is_green_mode(server_factory: ServerFactory) -> None:
    server = server_factory("apps.green:app", "-s1", "-t", "0")
    found = json.loads(server.get("/facts").body)
    assert found["is_main_thread"]
    assert found["sleep"].startswith("eventlet.")


def test_option_d_daemonize_pidfile_stdout_stderr(tmp_path: Path) -> None:
    out, err, address = tmp_path / "out", tmp_path / "err", tmp_path / "http.sock"
    arguments = ["-s1", f"-bunix:{address}", f"--stdout={out}", f"--stderr={err}"]
    with Daemon(tmp_path, *arguments, CONTRACT) as daemon:
        assert daemon.started.returncode == 0, daemon.started
        assert json.loads(unix_get(address).body)["pid"] in daemon.workers()
        assert eventually(lambda: '"GET / HTTP/1.1" 200' in out.read_text())
        daemon.signal(signal.SIGHUP)
        assert eventually(lambda: "a new generation serves" in err.read_text())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_option_u_chuid_takes_user_and_group_and_no_others(tmp_path: Path) -> None:
    """To another group of root's own: another user may not be able to run this Python."""
    address = tmp_path / "http.sock"
    with Daemon(tmp_path, "-s1", f"-bunix:{address}", "-u", "0:12345", CONTRACT) as daemon:
        assert daemon.started.returncode == 0, daemon.started
        for process in (daemon.pid, *daemon.workers()):
            found = status(process)
            assert found["Gid"] == ["12345"] * 4
            assert set(found["Groups"]) <= {"0", "12345"}
        assert unix_get(address).status == 200


def test_option_w_watch_implies_reload(server_factory: ServerFactory, site: Path) -> None:
    watched = [site / "one", site / "two"]
    for path in watched:
        path.touch()
    arguments = [word for path in watched for word in ("-w", str(path))]
    server = server_factory(APP, "-s1", *arguments, cwd=site)
    for generation, path in enumerate(watched, 2):
        versions.touch(path)
        server.wait_for_log(SERVES.format(generation))


def test_option_r_reload_dev(server_factory: ServerFactory, site: Path) -> None:
    """By inotify: nobody looks at every file each second."""
    server = server_factory(APP, "-s1", "-r", "dev", cwd=site, environment=versions.ENVIRONMENT)
    (worker,) = workers(server, 1)
    assert "anon_inode:inotify" in open_files(worker)
    versions.write(site, "v2")
    assert serves(server, "v2")


@pytest.mark.parametrize("spelling", ["--deadman", "--deadman_timeout"])
def test_option_deadman(server_factory: ServerFactory, tmp_path: Path, spelling: str) -> None:
    server = server_factory(PROCESSES, "-s1", spelling, "1")
    with held_request(server, tmp_path / "never"):
        server.signal(signal.SIGTERM)
        server.wait()
        assert server.processes() == []
    assert options(PROCESSES)["deadman-timeout"] == "10"


def test_option_l_access_log_file(server_factory: ServerFactory, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    server = server_factory(CONTRACT, "-s1", "-l", str(log))
    facts(server)
    assert eventually(lambda: '"GET / HTTP/1.1" 200' in log.read_text())
    assert server.stdout_text() == ""


@pytest.mark.parametrize("arguments", [[], ["-l-"]], ids=["default", "dash"])
def test_option_l_access_log_goes_to_stdout(server_factory: ServerFactory, arguments: list[str]) -> None:
    server = server_factory(CONTRACT, "-s1", *arguments)
    facts(server)
    server.wait_for_log(r'"GET / HTTP/1\.1" 200')
    assert '"GET / ' in server.stdout_text()


def test_option_l_dev_null_discards_the_access_log(server_factory: ServerFactory) -> None:
    server = server_factory(CONTRACT, "-s1", "--access-log-file=/dev/null")
    facts(server)
    server.stop()
    assert server.stdout_text() == ""


def test_option_c_coverage(server_factory: ServerFactory, site: Path) -> None:
    server = server_factory(APP, "-s1", "-c", cwd=site)
    assert server.get("/").body == b"v1"
    assert server.get("/_coverage").status == 200
    assert measured(server)[versions.MODULE]["missing_lines"] == []


def test_option_sysinfo(server_factory: ServerFactory) -> None:
    server = server_factory(CONTRACT, "-s1", "--sysinfo")
    found = json.loads(server.get("/_sysinfo").body)
    assert found["pid"] in server.processes()


def test_option_m_max_memory_counts_kib(server_factory: ServerFactory) -> None:
    server = server_factory(TROUBLE, "-s1", "-l/dev/null", "-m", str(300 * 1024))
    (first,) = workers(server, 1)
    server.get("/grow?400")
    server.wait_for_log(r"reloading every worker.*--max-memory")
    assert eventually(lambda: first not in server.processes())


def test_option_a_max_age(server_factory: ServerFactory) -> None:
    """The replacement comes first, so that no request fails."""
    server = server_factory(CONTRACT, "-s1", "-l/dev/null", "-a", "1")
    (first,) = workers(server, 1)
    with Load(server.address, clients=2) as load:
        server.wait_for_log(r"replacing a worker.*\(--max-age\)")
        assert eventually(lambda: first not in server.processes())
        load.wait_for_more(20)
    assert load.failures == []


def test_option_no_keepalive(server_factory: ServerFactory) -> None:
    server = server_factory(CONTRACT, "-s1", "--no-keepalive")
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert b"\r\nConnection: close\r\n" in answer


def test_option_status_port_and_status_host(server_factory: ServerFactory) -> None:
    server = server_factory(CONTRACT, "-s1", "--status-port=0", "--status-host=127.0.0.1")
    found = serving(server)
    page = found.get("/status")
    assert (page.status, (page.header("Content-Type") or "").partition(";")[0]) == (200, "text/html")
    assert found.json()["pid"] == server.pid
    assert found.get("/metrics").status == 200


def test_option_status_port_is_not_the_service_port(free_port: int) -> None:
    ended = run_to_end(f"--port={free_port}", f"--status-port={free_port}", CONTRACT)
    assert ended.returncode == EX_USAGE
    assert ended.stderr.startswith("spawn: --status-port: ")


def test_option_backdoor_is_a_unix_socket_for_its_user_alone(server_factory: ServerFactory) -> None:
    server = server_factory(CONTRACT, "-s1", "--backdoor")
    (path,) = sockets(server)
    assert path.stat().st_mode & 0o777 == 0o600
    assert said(server, "6 * 7\n") == ["42"]
    inodes = set(open_files(workers(server, 1)[0]))
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = {int(row[1].split(":")[1], 16) for row in listening if f"socket:[{row[9]}]" in inodes}
    # Beside connections that may still be there, nothing but the service's own port.
    assert ports <= {server.address[1]}


def test_option_v_verbose_prints_the_configuration_at_start_and_restart(
    server_factory: ServerFactory,
) -> None:
    server = server_factory(CONTRACT, "-s1", "-t7", "-v")
    assert server.stderr_text().count("threads: 7") == 1
    server.signal(signal.SIGHUP)
    server.wait_for_log(SERVES.format(2))
    assert server.stderr_text().count("threads: 7") == 2


def test_option_z_is_not_public() -> None:
    ended = run_to_end("-z", "{}", CONTRACT)
    assert ended.returncode == EX_USAGE
    assert ended.stderr.startswith("spawn: -z: no such option")


# === Behaviour ===


def test_behaviour_one_socket_for_life_and_no_reload_refuses_a_connection(
    server_factory: ServerFactory, site: Path
) -> None:
    server = server_factory(APP, "-s2", "-l/dev/null", cwd=site, environment=versions.ENVIRONMENT)

    def listener(process: int) -> set[str]:
        links = set(open_files(process))
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return {row[9] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links}

    before = listener(server.pid)
    assert len(before) == 1
    with Load(server.address) as load:
        for generation in (2, 3, 4):
            server.signal(signal.SIGHUP)
            server.wait_for_log(SERVES.format(generation))
            load.wait_for_more(20)
    assert load.failures == []
    assert listener(server.pid) == before
    assert all(listener(worker) == before for worker in accepting(server))


def test_behaviour_bind_is_retried_while_the_address_is_in_use(server_factory: ServerFactory) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        server = server_factory(CONTRACT, "-s1", f"--port={port}", wait=False)
        server.wait_for_log("the address is in use; trying again.*wait_s=0.5")
    server.wait_until_ready()
    assert facts(server)["pid"]


def test_behaviour_bind_that_never_succeeds_is_a_clear_death(tmp_path: Path) -> None:
    """Of a unix socket, which is tried for a shorter time."""
    path = tmp_path / "taken.sock"
    with socket.socket(socket.AF_UNIX) as holder:
        holder.bind(str(path))
        holder.listen()
        ended = run_to_end(f"--bind=unix:{path}", CONTRACT)
    assert ended.returncode != 0
    assert "in use" in ended.stderr
    assert "hint: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_behaviour_hup_starts_children_at_once_and_the_old_finish_what_they_hold(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    server = server_factory(PROCESSES, "-s1", "--deadman=600")
    (old,) = workers(server, 1)
    gate = tmp_path / "gate"
    with held_request(server, gate, still_accepting=1) as release:
        server.signal(signal.SIGHUP)
        server.wait_for_log(SERVES.format(2))
        assert eventually(lambda: int(server.get("/pid").body) != old)
        assert release()
    assert eventually(lambda: old not in server.processes())


def test_behaviour_a_child_that_dies_is_replaced(server_factory: ServerFactory) -> None:
    server = server_factory(CONTRACT, "-s1")
    (first,) = workers(server, 1)
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: workers(server, 1) != [first])
    assert facts(server)["pid"] != first


def test_behaviour_the_parents_death_ends_the_children(server_factory: ServerFactory) -> None:
    server = server_factory(CONTRACT, "-s2")
    workers(server, 2)
    server.signal(signal.SIGKILL)
    assert eventually(lambda: server.processes() == [])


def test_behaviour_the_current_directory_is_on_sys_path(server_factory: ServerFactory) -> None:
    found = facts(server_factory(CONTRACT, "-s1"))
    assert found["path"][0] in ("", found["cwd"])


def test_behaviour_int_is_ignored_by_a_child_and_ends_all_from_the_parent(
    server_factory: ServerFactory,
) -> None:
    server = server_factory(CONTRACT, "-s2")
    before = workers(server, 2)
    os.kill(before[0], signal.SIGINT)
    assert {facts(server)["pid"] for _ in range(20)} <= set(before)
    assert workers(server, 2) == before
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    assert server.processes() == []


def test_behaviour_status_json_has_its_keys(server_factory: ServerFactory) -> None:
    server = server_factory(CONTRACT, "-s2", "--status-port=0")
    seen = serving(server).json()
    assert set(seen) >= KEYS_OF_0_9
    assert {int(pid) for pid in seen["children"]} == set(workers(server, 2))
    assert all(set(child) >= CHILD_KEYS_OF_0_9 for child in seen["children"].values())


def test_behaviour_a_config_factory_sets_options(
    server_factory: ServerFactory, tmp_path: Path, free_port: int
) -> None:
    watched = tmp_path / "watched"
    watched.touch()
    settings = {
        "host": "127.0.0.1",
        "port": free_port,
        "num_processes": 2,
        "threadpool_workers": 3,
        "watch": [str(watched)],
        "source_directories": [str(tmp_path)],
        "dev": True,
    }
    server = server_factory(
        "given",
        "-s2",
        "-fapps.factories.sets_options",
        environment={"SETTINGS": json.dumps(settings)},
        port=False,
    )
    assert server.address == ("127.0.0.1", free_port)
    assert "2 processes x 3 threads" in server.stderr_text()
    shown = json.loads(server.get("/").body)
    assert shown["args"] == ["given"]
    assert {key: shown[key] for key in settings} == settings
    versions.touch(watched)
    server.wait_for_log(SERVES.format(2))


def test_behaviour_paste_serves_use_egg_spawning(server_factory: ServerFactory, tmp_path: Path) -> None:
    (entry,) = importlib.metadata.entry_points(group="paste.server_factory", name="main")
    assert entry.dist is not None
    assert entry.dist.name == "Spawning"
    ini(tmp_path, "host = 127.0.0.1\nport = 0\nnum_processes = 2\nthreadpool_workers = 3\n")
    pserve = str(BIN / "pserve")
    server = server_factory("development.ini", cwd=tmp_path, environment=ENVIRONMENT, program=[pserve])
    assert "2 processes x 3 threads" in server.stderr_text()
    assert server.get("/hello/you").body == b"Hello you"


def test_behaviour_paste_debug_reloads_and_the_ini_file_is_watched(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    path = ini(tmp_path, "port = 0\nnum_processes = 1\n", before="[DEFAULT]\ndebug = true\n")
    server = server_factory(
        str(path),
        "-fspawning.paste_factory.config_factory",
        cwd=tmp_path,
        environment=ENVIRONMENT,
        port=False,
    )
    assert json.loads(server.get("/settings").body)["colour"] == "blue"
    path.write_text(path.read_text().replace("blue", "green"))
    assert eventually(lambda: json.loads(server.get("/settings").body)["colour"] == "green")


def test_behaviour_green_threads_cooperate_through_monkeypatching(server_factory: ServerFactory) -> None:
    """A request that sleeps lets others run on the same thread."""
    server = server_factory("apps.green:app", "-s1", "-t0")
    with server.connect() as waiting:
        waiting.sendall(b"GET /wait HTTP/1.0\r\n\r\n")
        assert eventually(lambda: server.get("/count").body == b"1")
        server.get("/release")
        assert waiting.makefile("rb").read().endswith(b"released")


# === Faults that must not come back ===


def test_fault_new_code_that_cannot_be_imported_takes_nothing_down(
    server_factory: ServerFactory, site: Path
) -> None:
    server = server_factory(APP, "-s2", "-l/dev/null", cwd=site, environment=versions.ENVIRONMENT)
    before = workers(server, 2)
    versions.write(site, "v2", before="import no_such_module")
    with Load(server.address) as load:
        server.signal(signal.SIGHUP)
        server.wait_for_log("the reload failed")
        load.wait_for_more(20)
    assert load.failures == []
    assert set(load.bodies) == {b"v1"}
    # Nor do children die and respawn for ever.
    assert workers(server, 2) == before
    assert server.stderr_text().count("No module named 'no_such_module'") == 1
    assert server.stderr_text().count("it imports 'no_such_module', which does not exist") == 1


def test_fault_no_code_of_the_users_runs_in_the_supervisor(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    server = server_factory(
        "x", "-s1", "-fapps.factories.shows_options", environment={"CALLS_FILE": str(calls)}
    )
    assert server.get("/").status == 200
    callers = [int(line) for line in calls.read_text().splitlines()]
    assert callers
    assert server.pid not in callers
    assert str(TESTS / "apps") not in Path(f"/proc/{server.pid}/maps").read_text()


def test_fault_the_status_page_loads_nothing_from_elsewhere(server_factory: ServerFactory) -> None:
    server = server_factory(CONTRACT, "-s1", "--status-port=0")
    page = serving(server).get("/status").body.decode()
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert "jquery" not in page.lower()


def test_fault_files_are_not_polled(server_factory: ServerFactory, site: Path) -> None:
    """A worker that watches its modules and has nothing to do does not look at them."""
    server = server_factory(APP, "-s1", "-rdev", cwd=site, environment=versions.ENVIRONMENT)
    (worker,) = workers(server, 1)
    assert open_files(worker).count("anon_inode:inotify") == 1


def test_fault_a_response_does_not_hop_between_threads(server_factory: ServerFactory) -> None:
    server = server_factory(CONTRACT, "-s1", "-t4")
    asked = server.get("/threads").body.split()
    assert (len(asked), len(set(asked))) == (50, 1)


def test_fault_the_backdoor_is_closed_to_other_users(server_factory: ServerFactory) -> None:
    server = server_factory(CONTRACT, "-s1", "--backdoor")
    (path,) = sockets(server)
    for entry in (path, path.parent):
        assert entry.stat().st_uid == os.geteuid()
        assert entry.stat().st_mode & 0o077 == 0
