"""Django projects: by their settings, by their module, and through `manage.py spawn`."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import Server, run_to_end
from test_process_life import eventually

EX_USAGE = 64
EX_SOFTWARE = 70

FACTORY = "--factory=spawning.django_factory.config_factory"

VIEWS = """\
import os

from django.http import HttpResponse
from django.urls import path

def hello(request):
    return HttpResponse(f"Hello from {os.environ['DJANGO_SETTINGS_MODULE']}")

def passed(request):
    return HttpResponse(request.META.get("test.passed", "nothing"))

urlpatterns = [path("", hello), path("passed", passed)]
"""
MIDDLEWARE = """\
def noting(application):
    def middleware(environ, start_response):
        environ["test.passed"] = environ.get("test.passed", "") + "outside "
        return application(environ, start_response)
    return middleware
"""
SAFE = """
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
SECRET_KEY = "for tests alone, not known to anybody who matters, and long enough"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project as `startproject` makes it, with two pages, settings fit for production beside its own, and
    middleware."""
    subprocess.run(
        [sys.executable, "-m", "django", "startproject", "mysite", str(tmp_path)], cwd=tmp_path, check=True
    )
    (tmp_path / "mysite" / "urls.py").write_text(VIEWS)
    (tmp_path / "mysite" / "middleware.py").write_text(MIDDLEWARE)
    settings = tmp_path / "mysite" / "settings.py"
    (tmp_path / "mysite" / "production.py").write_text(f"from mysite.settings import *\n{SAFE}")
    with_command = settings.read_text().replace(
        "INSTALLED_APPS = [", 'INSTALLED_APPS = [\n    "spawning.django",'
    )
    settings.write_text(with_command)
    return tmp_path


@pytest.fixture
def manage(project: Path) -> list[str]:
    """The words before those of `manage.py spawn`."""
    return [sys.executable, "manage.py", "spawn"]


def test_run_the_django_app_mysite(server_factory: ServerFactory, project: Path) -> None:
    """The example of Spawning's manual, word for word."""
    server = server_factory(
        "mysite.settings",
        "--factory=spawning.django_factory.config_factory",
        cwd=project,
        environment={"SPAWN_PORT": "0"},
    )
    assert server.get("/").body == b"Hello from mysite.settings"


def test_run_settings_from_the_directory_that_holds_them(
    server_factory: ServerFactory, project: Path
) -> None:
    """Word for word from the article that announced Django to Spawning's users; the port alone is another."""
    line = [
        "--factory=spawning.django_factory.config_factory",
        "settings",
        "--port",
        "0",
        "-s",
        "4",
        "-t",
        "100",
    ]
    server = server_factory(
        line[-1], *line[:-1], cwd=project / "mysite", environment={"PYTHONPATH": str(project)}
    )
    assert "4 processes x 100 threads" in server.stderr_text()
    assert server.get("/").body == b"Hello from settings"


@pytest.mark.parametrize("name", ["mysite.wsgi", "mysite.wsgi.application", "mysite.wsgi:application"])
def test_a_project_is_served_by_its_wsgi_module(
    server_factory: ServerFactory, project: Path, name: str
) -> None:
    assert server_factory(name, "-s1", cwd=project).get("/").body == b"Hello from mysite.settings"


def test_middleware_wraps_the_project_in_the_order_of_its_names(
    server_factory: ServerFactory, project: Path
) -> None:
    server = server_factory(
        "mysite.middleware.noting",
        "-s1",
        FACTORY,
        "mysite.production",
        "mysite.middleware.noting",
        cwd=project,
    )
    assert server.get("/passed").body == b"outside outside "


def test_static_files_are_served_while_debugging_as_runserver_does(
    server_factory: ServerFactory, project: Path
) -> None:
    server = server_factory("mysite.settings", "-s1", FACTORY, cwd=project)
    answer = server.get("/static/admin/css/base.css")
    assert (answer.status, answer.header("Content-Type")) == (200, "text/css")
    import django.contrib.admin

    file = Path(django.contrib.admin.__file__).parent / "static" / "admin" / "css" / "base.css"
    assert answer.body == file.read_bytes()
    assert server.get("/static/no/such.css").status == 404


def test_static_files_are_not_served_in_production(server_factory: ServerFactory, project: Path) -> None:
    server = server_factory("mysite.production", "-s1", FACTORY, cwd=project)
    assert server.get("/static/admin/css/base.css").status == 404
    assert server.get("/").status == 200


def test_settings_unsafe_in_production_are_told_once(server_factory: ServerFactory, project: Path) -> None:
    server = server_factory("mysite.settings", "-s2", FACTORY, cwd=project)
    said = server.stderr_text()
    assert said.count("spawn: mysite.settings: DEBUG is on") == 1
    assert said.count("SECRET_KEY is one that startproject made") == 1


def test_settings_safe_in_production_need_no_word(server_factory: ServerFactory, project: Path) -> None:
    server = server_factory("mysite.production", "-s1", FACTORY, cwd=project)
    assert len(server.stderr_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ("ALLOWED_HOSTS = ['*']", "ALLOWED_HOSTS allows every host"),
        ("SECRET_KEY = 'short'", "SECRET_KEY has 5 characters, at least 50"),
        ("DEBUG = True", "DEBUG is on"),
    ],
)
def test_each_unsafe_setting_has_its_warning(
    server_factory: ServerFactory, project: Path, change: str, warning: str
) -> None:
    with (project / "mysite" / "production.py").open("a") as settings:
        settings.write(f"{change}\n")
    server = server_factory("mysite.production", "-s1", FACTORY, cwd=project)
    warnings = [line for line in server.stderr_text().splitlines() if line.startswith("spawn: ")]
    assert len(warnings) == 1
    assert warning in warnings[0]


def test_the_projects_own_wsgi_application_is_served(server_factory: ServerFactory, project: Path) -> None:
    """WSGI_APPLICATION counts, as it does for runserver: projects wrap their application there."""
    with (project / "mysite" / "wsgi.py").open("a") as module:
        module.write("from mysite.middleware import noting\napplication = noting(application)\n")
    server = server_factory("mysite.settings", "-s1", FACTORY, cwd=project)
    assert server.get("/passed").body == b"outside "


@pytest.mark.parametrize(
    ("module", "text", "messages"),
    [
        ("mysite.no_such", "", ["'mysite.no_such'", "no such settings module"]),
        ("no_such.settings", "", ["'no_such.settings'", "no such settings module"]),
        ("mysite.broken", "SECRET_KEY = 1 / 0\n", ["ZeroDivisionError", "Traceback", "broken.py"]),
        ("mysite.broken", "import no_such_module\n", ["no_such_module", "Traceback", "broken.py"]),
        ("mysite.broken", "DEBUG = True\n", ["SECRET_KEY"]),
        ("mysite.broken", f"{SAFE}INSTALLED_APPS = ['no.such.app']\n", ["No module named 'no'", "Traceback"]),
    ],
)
def test_settings_that_cannot_be_loaded_end_the_start(
    project: Path, module: str, text: str, messages: list[str]
) -> None:
    (project / "mysite" / "broken.py").write_text(text)
    ended = run_to_end("--port=0", "-s2", FACTORY, module, cwd=project)
    assert ended.returncode == EX_SOFTWARE, ended
    for message in messages:
        assert message in ended.stderr
    assert ended.stderr.count("Traceback (most recent call last)") <= 1
    assert "django_factory.py" not in ended.stderr


def test_check_finds_a_broken_url_configuration_no_later_than_the_server_would(project: Path) -> None:
    assert run_to_end("--check", FACTORY, "mysite.production", cwd=project).returncode == 0
    with (project / "mysite" / "production.py").open("a") as settings:
        settings.write("WSGI_APPLICATION = 'mysite.no_such.application'\n")
    ended = run_to_end("--check", FACTORY, "mysite.production", cwd=project)
    assert ended.returncode == EX_SOFTWARE
    assert "mysite.no_such.application" in ended.stderr


# manage.py spawn


def test_manage_py_spawn_serves_the_project(
    server_factory: ServerFactory, project: Path, manage: list[str]
) -> None:
    server = server_factory("--port=0", "-s1", "-t", "3", cwd=project, program=manage)
    assert "1 process x 3 threads" in server.stderr_text()
    assert server.get("/").body == b"Hello from mysite.settings"
    server.stop()


def test_manage_py_spawn_takes_settings_and_middleware(
    server_factory: ServerFactory, project: Path, manage: list[str]
) -> None:
    server = server_factory(
        "mysite.middleware.noting",
        *["--settings=mysite.production", "-p0", "-s", "1", "-v"],
        cwd=project,
        program=manage,
    )
    assert server.get("/").body == b"Hello from mysite.production"
    assert server.get("/passed").body == b"outside "


def test_manage_py_spawn_finds_the_project_from_another_directory(
    server_factory: ServerFactory, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server: Server = server_factory(
        "mysite.production",
        *["-p0", "-s1", "--settings"],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        program=[sys.executable, str(project / "manage.py"), "spawn"],
    )
    assert server.get("/").body == b"Hello from mysite.production"


def test_manage_py_spawn_passes_mistakes_on(project: Path, manage: list[str]) -> None:
    ended = subprocess.run(
        [*manage, "--port=70000"], cwd=project, capture_output=True, text=True, timeout=90, check=False
    )
    assert ended.returncode == EX_USAGE
    assert ended.stderr.startswith("spawn: --port: 70000 is too large")


@pytest.mark.parametrize("words", [["spawn", "--help"], ["help", "spawn"]], ids=" ".join)
def test_manage_py_helps_with_the_options_of_spawn(project: Path, words: list[str]) -> None:
    helped = subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert "--keepalive-timeout SECONDS" in helped.stdout


def test_settings_that_are_broken_at_the_first_start_are_waited_for(
    server_factory: ServerFactory, project: Path
) -> None:
    """With `--reload dev`, as any other application is: a typing mistake needs no restart."""
    settings = project / "mysite" / "production.py"
    whole = settings.read_text()
    settings.write_text("raise RuntimeError('no such table')")
    arguments = (FACTORY, "-s1", "--reload=dev")
    server = server_factory("mysite.production", *arguments, cwd=project, wait=False)
    server.wait_for_log("no such table")
    server.wait_for_log("waiting for a file to change")
    settings.write_text(whole)
    server.wait_until_ready()
    assert server.get("/").body == b"Hello from mysite.production"
    server.stop()


def test_a_server_that_waits_for_settings_can_be_interrupted(
    server_factory: ServerFactory, project: Path
) -> None:
    (project / "mysite" / "production.py").write_text("def")
    arguments = (FACTORY, "-s1", "--reload=dev")
    server = server_factory("mysite.production", *arguments, cwd=project, wait=False)
    server.wait_for_log("waiting for a file to change")
    server.signal(signal.SIGTERM)
    assert eventually(lambda: server.processes() == [])


def test_a_changed_template_is_served_with_reload_dev(server_factory: ServerFactory, project: Path) -> None:
    """Django's cached loader keeps templates; runserver watches them, and so does this."""
    templates = project / "site_templates"
    templates.mkdir()
    (templates / "page.html").write_text("first")
    settings = project / "mysite" / "settings.py"
    settings.write_text(settings.read_text().replace("'DIRS': []", "'DIRS': [BASE_DIR / 'site_templates']"))
    (project / "mysite" / "urls.py").write_text(
        "from django.shortcuts import render\nfrom django.urls import path\n"
        "urlpatterns = [path('', lambda request: render(request, 'page.html'))]\n"
    )
    server = server_factory("mysite.wsgi", "-s1", "--reload=dev", cwd=project)
    assert server.get("/").body == b"first"
    (templates / "page.html").write_text("second")
    eventually(lambda: server.get("/").body == b"second")


def test_the_settings_of_the_factory_may_be_named_by_djangos_own_variable(project: Path) -> None:
    ended = run_to_end(
        "--check", FACTORY, cwd=project, environment={"DJANGO_SETTINGS_MODULE": "mysite.settings"}
    )
    assert ended.returncode == 0, ended.stderr
    ended = run_to_end("--check", FACTORY, cwd=project)
    assert ended.returncode == EX_USAGE
    assert "settings module" in ended.stderr
    assert "DJANGO_SETTINGS_MODULE" in ended.stderr


def test_an_application_in_the_place_of_settings_is_told_apart(project: Path) -> None:
    ended = run_to_end("--check", FACTORY, "mysite.wsgi", cwd=project)
    assert ended.returncode == EX_SOFTWARE
    assert "write spawn mysite.wsgi" in ended.stderr


@pytest.mark.parametrize("name", ["mysite.wsgi", "mysite.wsgi:application", "mysite.wsgi.application"])
def test_a_directory_too_high_is_told(
    project: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    above = tmp_path_factory.mktemp("above")
    (above / "mysite").symlink_to(project)
    ended = run_to_end("--check", name, cwd=above)
    assert ended.returncode == EX_SOFTWARE
    assert f"--chdir {above}/mysite" in ended.stderr
