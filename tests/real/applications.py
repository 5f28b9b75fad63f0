"""Real applications as their users install and serve them, each in a virtualenv kept in target/real."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from server import TESTS

VENVS = Path(os.environ.get("REAL_VENVS", TESTS.parent / "target" / "real"))
WHEELS = Path(os.environ.get("SPAWNING_WHEELS", TESTS.parent / "target" / "wheel"))
SITES = TESTS / "real" / "sites"
INSTALL_TIMEOUT_S = 1800
PREPARE_TIMEOUT_S = 600
#: Adds a line to what the run has to tell.
Tell = Callable[[str], None]
USER, PASSWORD, MAIL = "ada", "correct horse battery", "ada@example.org"


@dataclass
class Site:
    """What is to be served: words for `spawn`, where, and with which environment."""

    name: str
    venv: Path
    directory: Path
    words: Sequence[str] = ()
    cwd: Path = SITES
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, cwd: Path | None = None, answers: str = "") -> str:
        """Run a command of the virtualenv."""
        path = f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [str(self.venv / "bin" / command[0]), *command[1:]],
            cwd=cwd or self.cwd,
            env={**os.environ, **self.environment, "PATH": path},
            input=answers,
            capture_output=True,
            text=True,
            timeout=PREPARE_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
        return done.stdout


def installed(name: str, packages: Sequence[str], tell: Tell) -> Path:
    """The virtualenv of an application with the newest wheel of the server; skips where it cannot be had."""
    venv = VENVS / name
    stamp = venv / hashlib.sha256(" ".join(packages).encode()).hexdigest()[:8]
    began = time.monotonic()
    if not stamp.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        done = _pip(venv, *packages)
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["pip said nothing"]
            tell(f"{name}: cannot be installed from PyPI: {said[-1]}")
            pytest.skip(f"{' '.join(packages)} cannot be installed: {said[-1]}")
        stamp.touch()
    wheels = sorted(WHEELS.glob("[Ss]pawning-*.whl"), key=lambda path: path.stat().st_mtime)
    assert wheels, f"no wheel in {WHEELS}: make real builds one"
    done = _pip(venv, "--no-deps", "--force-reinstall", str(wheels[-1]))
    assert done.returncode == 0, done.stderr
    versions = subprocess.run(
        [venv / "bin" / "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    wanted = {package.lower() for package in packages}
    named = [line for line in versions if line.partition("==")[0].lower() in wanted]
    tell(f"{name}: {' '.join(named)}, installed in {time.monotonic() - began:.0f} s")
    return venv


def _pip(venv: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *words],
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )


def wagtail(site: Site) -> None:
    """`wagtail start`, as its tutorial does; static files by the Django factory while DEBUG is on."""
    site.cwd = site.directory / "mysite"
    site.cwd.mkdir()
    site.run("wagtail", "start", "mysite", ".")
    site.environment = {
        "DJANGO_SETTINGS_MODULE": "mysite.settings.dev",
        "DJANGO_SUPERUSER_USERNAME": USER,
        "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        "DJANGO_SUPERUSER_EMAIL": MAIL,
    }
    site.run("python", "manage.py", "migrate", "--verbosity=0")
    site.run("python", "manage.py", "createsuperuser", "--noinput")
    site.words = ["--factory=spawning.django_factory.config_factory", "mysite.settings.dev"]


def rest_framework(site: Site) -> None:
    """A small site of ours, as `startproject` would have it."""
    site.environment = {
        "DJANGO_SETTINGS_MODULE": "rest_site.settings",
        "REST_SITE_DATA": str(site.directory),
        "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
    }
    django = ("python", "-m", "django")
    site.run(*django, "migrate", "--verbosity=0")
    site.run(*django, "createsuperuser", "--noinput", f"--username={USER}", f"--email={MAIL}")
    site.words = ["rest_site.wsgi"]


def pgadmin(site: Site) -> None:
    """As its documentation serves it with gunicorn: one process, 25 threads, in the package's directory."""
    (package,) = site.venv.glob("lib/python3*/site-packages/pgadmin4")
    names = {
        "LOG_FILE": "pgadmin4.log",
        "SQLITE_PATH": "pgadmin4.db",
        "SESSION_DB_PATH": "sessions",
        "STORAGE_DIR": "storage",
        "AZURE_CREDENTIAL_CACHE_DIR": "azure",
        "KERBEROS_CCACHE_DIR": "kerberos",
    }
    lines = ["import os", "DATA_DIR = os.environ['PGADMIN_DATA']", "UPGRADE_CHECK_ENABLED = False"]
    lines += [f"{name} = os.path.join(DATA_DIR, {file!r})" for name, file in names.items()]
    (package / "config_local.py").write_text("\n".join(lines) + "\n")
    site.cwd = package
    site.environment = {
        "PGADMIN_DATA": str(site.directory),
        "PGADMIN_SETUP_EMAIL": MAIL,
        "PGADMIN_SETUP_PASSWORD": PASSWORD,
    }
    site.run("python", "setup.py", "setup-db")
    site.words = ["-s1", "-t25", "pgAdmin4:app"]


def trac(site: Site) -> None:
    """A new environment, and a user who may write tickets."""
    project = site.directory / "project"
    site.run("trac-admin", str(project), "initenv", "Real", "sqlite:db/trac.db")
    site.run("trac-admin", str(project), "permission", "add", USER, "TRAC_ADMIN")
    digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
    (project / "htpasswd").write_text(f"{USER}:{{SHA}}{digest}\n")
    site.environment = {"TRAC_ENV": str(project)}
    site.words = ["trac_site"]


def radicale(site: Site) -> None:
    """As its documentation serves it with uWSGI or gunicorn."""
    accounts, storage = site.directory / "accounts", site.directory / "collections"
    accounts.write_text(f"{USER}:{PASSWORD}\n")
    config = site.directory / "config"
    config.write_text(
        f"[auth]\ntype = htpasswd\nhtpasswd_filename = {accounts}\nhtpasswd_encryption = plain\n"
        f"[storage]\nfilesystem_folder = {storage}\n"
    )
    site.environment = {"RADICALE_CONFIG": str(config)}
    site.words = ["radicale:application"]


@dataclass(frozen=True)
class Application:
    """An application on PyPI, how it is made ready, and a page that anybody may read."""

    packages: Sequence[str]
    prepare: Callable[[Site], None]
    page: str


APPLICATIONS: Mapping[str, Application] = {
    "wagtail": Application(["wagtail"], wagtail, "/"),
    "rest-framework": Application(["django", "djangorestframework"], rest_framework, "/groups/?format=json"),
    "pgadmin4": Application(["pgadmin4"], pgadmin, "/misc/ping"),
    "trac": Application(["trac", "setuptools<81"], trac, "/wiki/TracGuide"),
    "radicale": Application(["radicale"], radicale, "/.web/"),
}


def ready(name: str, directory: Path, tell: Tell, *more: str) -> Site:
    """Install an application, with more packages beside it, and make a site of it."""
    application = APPLICATIONS[name]
    venv = installed("-".join([name, *more[:1]]), [*application.packages, *more], tell)
    site = Site(name, venv, directory)
    application.prepare(site)
    return site
