"""What a change of a file does: `--reload dev` and `--watch`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import zipapp
import zipfile
from pathlib import Path

import pytest

import versions
from conftest import ServerFactory
from server import Server, read_response, run_to_end
from test_process_life import eventually, workers
from versions import APP, ENVIRONMENT
from wire import HOST, message

SERVING = "a new generation serves"
SERVES = SERVING + r".*generation={}$"
#: An application that imports a module of its own with its first request.
IMPORTS_LATE = """\
def app(environ, start_response):
    import late
    start_response("200 OK", [])
    return [late.ANSWER]
"""
#: Longer than a burst of changes takes to settle and a generation to load.
QUIET_S = 2.0
#: Shorter than that burst may be interrupted before it has settled.
BURST_S_MAX = 0.1


@pytest.fixture
def site(tmp_path: Path) -> Path:
    versions.write(tmp_path, "v1")
    return tmp_path


def start(server_factory: ServerFactory, site: Path, *arguments: str, wait: bool = True) -> Server:
    return server_factory(APP, "-s2", "-l/dev/null", *arguments, cwd=site, environment=ENVIRONMENT, wait=wait)


def reloads(server: Server) -> int:
    """Reloads so far, when no more come for a while."""
    before = -1
    while before != (now := server.stderr_text().count(SERVING)):
        before = now
        wait_for_another(server, before)
    return before


def wait_for_another(server: Server, count: int) -> None:
    """Wait for a reload more than `count`; its absence takes the whole time."""
    deadline = time.monotonic() + QUIET_S
    while time.monotonic() < deadline and server.stderr_text().count(SERVING) == count:
        time.sleep(0.05)


def serves(server: Server, body: str) -> bool:
    return eventually(lambda: server.get("/").body == body.encode())


# Modules


def test_a_saved_module_is_reloaded(server_factory: ServerFactory, site: Path) -> None:
    server = start(server_factory, site, "-r", "dev")
    versions.write(site, "v2")
    assert serves(server, "v2")
    text = (site / versions.MODULE).read_text()
    (site / versions.MODULE).write_text(text.replace("v2", "v3, written in place"))
    assert serves(server, "v3, written in place")
    assert server.wait_for_log(r"a file has changed.*site_code\.py")


def test_a_touched_module_is_reloaded_once_however_many_processes_saw_it(
    server_factory: ServerFactory, site: Path
) -> None:
    server = start(server_factory, site, "--reload=dev", "-s3")
    first = workers(server, 3)
    versions.touch(site / versions.MODULE)
    server.wait_for_log(SERVES.format(2))
    assert eventually(lambda: not set(first) & set(server.processes()))
    assert reloads(server) == 1


def test_a_process_that_stood_still_does_not_reload_again_for_the_change_that_the_others_saw(
    server_factory: ServerFactory, site: Path
) -> None:
    server = start(server_factory, site, "--reload=dev")
    with contextlib.ExitStack() as stack:
        # With connections left the slow one does not end before it has noticed.
        for _ in range(10):
            connection = stack.enter_context(server.connect())
            connection.sendall(message("GET / HTTP/1.1", HOST))
            assert read_response(connection.makefile("rb")).body == b"v1"
        slow, _ = workers(server, 2)
        os.kill(slow, signal.SIGSTOP)
        versions.write(site, "v2")
        server.wait_for_log(SERVES.format(2))
        os.kill(slow, signal.SIGCONT)
        assert eventually(lambda: server.stderr_text().count("a file has changed") == 2)
    assert reloads(server) == 1


def test_a_burst_of_changes_is_one_reload(server_factory: ServerFactory, site: Path) -> None:
    versions.write(site, "unused", module="other.py")
    versions.write(site, "v1", before="import other")
    server = start(server_factory, site, "--reload=dev")

    def burst_s() -> float:
        began = time.monotonic()
        for version in range(2, 10):
            versions.write(site, f"v{version}", before="import other")
            versions.touch(site / "other.py")
        return time.monotonic() - began

    before = 0
    while burst_s() > BURST_S_MAX:
        # A machine that stands still in the middle makes two of it; then once more.
        before = reloads(server)
    assert eventually(lambda: server.stderr_text().count(SERVING) > before)
    assert serves(server, "v9")
    assert reloads(server) == before + 1


def test_a_module_that_is_imported_by_a_request_is_watched_from_then_on(
    server_factory: ServerFactory, site: Path
) -> None:
    (site / versions.MODULE).write_text(IMPORTS_LATE)
    (site / "late.py").write_text("ANSWER = b'1'\n")
    server = start(server_factory, site, "--reload=dev", "-s1")
    assert server.get("/").body == b"1"
    number = 2

    def changed() -> bool:
        nonlocal number
        (site / "late.py").write_text(f"ANSWER = b'{number}'\n")
        number += 1
        return server.get("/").body != b"1"

    assert eventually(changed)


def test_without_reload_nothing_is_watched(server_factory: ServerFactory, site: Path) -> None:
    server = start(server_factory, site)
    versions.write(site, "v2")
    assert reloads(server) == 0
    assert server.get("/").body == b"v1"


@pytest.mark.parametrize("code", ["def", "raise RuntimeError('no such table')", "import sys; sys.exit(1)"])
def test_a_broken_module_keeps_the_old_code_and_waits_for_the_next_save(
    server_factory: ServerFactory, site: Path, code: str
) -> None:
    server = start(server_factory, site, "--reload=dev")
    versions.write(site, "broken", before=code)
    server.wait_for_log("the reload failed")
    assert server.get("/").body == b"v1"
    versions.write(site, "v3")
    assert serves(server, "v3")
    assert server.stderr_text().count("the reload failed") == 1


def test_a_new_module_that_is_broken_is_watched_though_nobody_loaded_it(
    server_factory: ServerFactory, site: Path
) -> None:
    """Only the failed generation knows of it: the one that serves never imported it."""
    server = start(server_factory, site, "--reload=dev")
    (site / "fresh.py").write_text("def")
    versions.write(site, "v2", before="import fresh")
    server.wait_for_log("the reload failed")
    (site / "fresh.py").write_text("answer = 2")
    assert serves(server, "v2")


# The first start


def test_a_first_version_that_cannot_be_loaded_is_waited_for(
    server_factory: ServerFactory, site: Path
) -> None:
    """Clients wait, the traceback is in the log, and the save that mends it serves them."""
    versions.write(site, "broken", before="raise RuntimeError('no such table')")
    server = start(server_factory, site, "--reload=dev", wait=False)
    server.wait_for_log(r"cannot load the application; waiting for a file to change")
    server.wait_for_log(r"^RuntimeError: no such table")
    with server.connect() as waiting, waiting.makefile("rb") as stream:
        waiting.sendall(message("GET / HTTP/1.0", HOST))
        versions.write(site, "mended")
        server.wait_until_ready()
        assert stream.read().endswith(b"mended")
    assert server.stderr_text().count("waiting for a file to change") == 1
    versions.write(site, "v3")
    assert serves(server, "v3")
    server.stop()


def test_a_first_version_that_is_not_there_yet_is_waited_for(
    server_factory: ServerFactory, site: Path
) -> None:
    versions.write(site, "v1", before="import missing")
    server = start(server_factory, site, "--reload=dev", wait=False)
    server.wait_for_log(r"waiting for a file to change")
    (site / "missing.py").write_text("")
    server.wait_until_ready()
    assert server.get("/").body == b"v1"


def test_a_first_version_that_ends_the_process_is_tried_again(
    server_factory: ServerFactory, site: Path
) -> None:
    versions.write(site, "broken", before="import os; os._exit(3)")
    server = start(server_factory, site, "--reload=dev", wait=False)
    server.wait_for_log(r"waiting for a file to change")
    versions.write(site, "v2")
    server.wait_until_ready()
    assert server.get("/").body == b"v2"
    assert server.stderr_text().count("waiting for a file to change") == 1


def test_a_server_that_waits_can_be_stopped_and_reloaded_by_signal(
    server_factory: ServerFactory, site: Path
) -> None:
    versions.write(site, "broken", before="def")
    server = start(server_factory, site, "--reload=dev", wait=False)
    server.wait_for_log(r"waiting for a file to change")
    server.signal(signal.SIGHUP)
    assert eventually(lambda: server.stderr_text().count("waiting for a file to change") == 2)
    server.stop()


# Watched files


@pytest.fixture
def watched(site: Path) -> Path:
    directory = site / "watched"
    directory.mkdir()
    (directory / "page.html").write_text("1")
    return directory


def test_a_watched_file_reloads_by_touch_write_and_rename(
    server_factory: ServerFactory, site: Path, watched: Path
) -> None:
    page = watched / "page.html"
    server = start(server_factory, site, "-w", str(page))
    versions.touch(page)
    server.wait_for_log(SERVES.format(2))
    with page.open("r+") as file:
        # In one go: to cut it off first and to write then are two changes if the machine stands still.
        file.write("12")
    server.wait_for_log(SERVES.format(3))
    (watched / "scratch").write_text("123")
    (watched / "scratch").rename(page)
    server.wait_for_log(SERVES.format(4))
    (watched / "neighbour").write_text("not watched")
    versions.write(site, "v2")
    assert reloads(server) == 3, "neither its neighbours nor modules are watched"


def test_a_file_that_is_deleted_reloads_when_it_is_back(
    server_factory: ServerFactory, site: Path, watched: Path
) -> None:
    page = watched / "page.html"
    server = start(server_factory, site, "-w", str(page))
    page.unlink()
    assert reloads(server) == 0
    page.write_text("back")
    server.wait_for_log(SERVES.format(2))


def test_a_watched_link_reloads_when_it_leads_elsewhere(
    server_factory: ServerFactory, site: Path, watched: Path
) -> None:
    """As Kubernetes changes a mounted ConfigMap: a link to a directory is renamed over."""
    for version in ("one", "two"):
        (watched / version).mkdir()
        (watched / version / "settings").write_text(version)
    (watched / "current").symlink_to("one")
    (watched / "settings").symlink_to("current/settings")
    server = start(server_factory, site, "-w", str(watched / "settings"))
    (watched / "next").symlink_to("two")
    (watched / "next").rename(watched / "current")
    server.wait_for_log(SERVES.format(2))


def test_a_watched_directory_reloads_for_all_it_contains_but_scratch_files(
    server_factory: ServerFactory, site: Path, watched: Path
) -> None:
    server = start(server_factory, site, "-w", str(watched), "-w", str(site / versions.MODULE))
    (watched / "deep" / "deeper").mkdir(parents=True)
    server.wait_for_log(SERVES.format(2))
    (watched / "deep" / "deeper" / "style.css").write_text("a {}")
    server.wait_for_log(SERVES.format(3))
    for scratch in (".page.html.swp", "page.html~", "4913"):
        (watched / scratch).write_text("scratch")
    assert reloads(server) == 2
    versions.write(site, "v2")
    assert serves(server, "v2"), "each of several --watch counts"


def test_a_relative_path_is_taken_from_where_the_server_was_started(
    server_factory: ServerFactory, site: Path, watched: Path
) -> None:
    before = f"import os; os.chdir({str(watched)!r})"
    versions.write(site, "v1", before=before)
    server = start(server_factory, site, "-w", "watched/page.html")
    versions.touch(watched / "page.html")
    server.wait_for_log(SERVES.format(2))


def test_what_cannot_be_watched_is_a_mistake(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    ended = run_to_end("--watch", str(missing), "apps.hello:app")
    assert ended.returncode == os.EX_USAGE
    assert ended.stderr.startswith(f'spawn: --watch: "{missing}" cannot be found: ')
    assert "hint: " in ended.stderr


@pytest.mark.parametrize("how", ["dev", "poll"])
def test_a_directory_behind_a_link_reloads_when_the_link_is_swapped(
    server_factory: ServerFactory, site: Path, how: str
) -> None:
    """Also when an editor or a deploy has nothing to do with the files themselves, and again after that."""
    for release in ("1", "2", "3"):
        (site / release / "templates").mkdir(parents=True)
        (site / release / "templates" / "a.html").write_text("a")
    (site / "current").symlink_to("1")
    names = [site / "current" / "templates", site / "current" / "templates" / "a.html"]
    words = [f"--watch={name}" for name in (names if how == "dev" else names[1:])]
    server = start(server_factory, site, f"--reload={how}", "--poll-interval=0.1", *words)
    for generation, release in enumerate(("2", "3"), 2):
        (site / "next").symlink_to(release)
        (site / "next").rename(site / "current")
        server.wait_for_log(SERVES.format(generation))


def test_a_kubernetes_volume_reloads_when_its_link_is_swapped(
    server_factory: ServerFactory, site: Path
) -> None:
    volume = site / "volume"
    for version in ("..1", "..2"):
        (volume / version).mkdir(parents=True)
        (volume / version / "settings.toml").write_text(version)
    (volume / "..data").symlink_to("..1")
    (volume / "settings.toml").symlink_to("..data/settings.toml")
    server = start(server_factory, site, f"--watch={volume}")
    (volume / "..data_tmp").symlink_to("..2")
    (volume / "..data_tmp").rename(volume / "..data")
    server.wait_for_log(SERVES.format(2))


def test_a_working_directory_behind_a_link_reloads_when_the_link_is_swapped(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
        versions.write(tmp_path / release, f"v{release}")
    (tmp_path / "current").symlink_to("1")
    server = start(server_factory, tmp_path, "--reload=dev", "--chdir=current")
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(tmp_path / "current")
    server.wait_for_log(SERVES.format(2))
    eventually(lambda: server.get("/").body == b"v2")


def test_polling_notices_modules_new_and_old(server_factory: ServerFactory, site: Path) -> None:
    server = start(server_factory, site, "--reload=poll", "--poll-interval=0.1")
    versions.write(site, "v2")
    server.wait_for_log(SERVES.format(2))
    eventually(lambda: server.get("/").body == b"v2")
    (site / versions.MODULE).write_text("import helper\n")
    server.wait_for_log("the reload failed")
    (site / "helper.py").write_text("")
    versions.write(site, "v3")
    eventually(lambda: server.get("/").body == b"v3")


def test_an_archive_of_modules_is_watched_as_one_file(server_factory: ServerFactory, tmp_path: Path) -> None:
    def write(answer: str) -> None:
        text = versions.CODE.format(before="", answer=answer)
        with zipfile.ZipFile(tmp_path / "new.pyz", "w") as archive:
            archive.writestr(versions.MODULE, text)
        (tmp_path / "new.pyz").rename(tmp_path / "site.pyz")

    write("v1")
    server = start(server_factory, tmp_path, "--reload=dev", "--python-path=site.pyz")
    assert server.get("/").body == b"v1"
    write("v2")
    server.wait_for_log(SERVES.format(2))
    eventually(lambda: server.get("/").body == b"v2")


def test_workers_of_a_bundle_find_what_is_in_it(server_factory: ServerFactory, tmp_path: Path) -> None:
    """As zipapp makes it, and shiv and pex: Python is given an archive to run, which calls the server."""
    source = tmp_path / "source"
    source.mkdir()
    versions.write(source, "bundled")
    (source / "__main__.py").write_text("import sys\nfrom spawning.__main__ import main\nsys.exit(main())\n")
    zipapp.create_archive(source, tmp_path / "bundle.pyz")
    words = ["--port=0", "-s1", "-l/dev/null"]
    program = [sys.executable, str(tmp_path / "bundle.pyz")]
    server = server_factory(APP, *words, cwd=Path("/"), environment=ENVIRONMENT, program=program)
    assert server.get("/").body == b"bundled"
