"""Which files the application consists of, for the watcher of ``--reload dev``."""

import sys
from pathlib import Path
from types import TracebackType

_told: set[str] = set()
_failed: set[str] = set()
_archives_told: set[str] = set()


def new_files() -> list[str]:
    """Return the files of modules loaded since the last call, and of what could not be loaded.

    A directory stands for all it contains.
    """
    files = (set(map(_file, list(sys.modules.values()))) | _failed | _templates()) - {""} - _told
    _told.update(files)
    archives = {_existing(file) for file in files} - _archives_told
    _archives_told.update(archives)
    return sorted(archives)


def remember(error: BaseException | None) -> None:
    """Watch the files that ``error`` came through: a module that fails is not in ``sys.modules``."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        _remember_frames(error.__traceback__)
        if isinstance(error, SyntaxError) and error.filename:
            _add(error.filename)
        waiting += [error.__cause__, error.__context__]


def _remember_frames(traceback: TracebackType | None) -> None:
    while traceback is not None:
        _add(traceback.tb_frame.f_code.co_filename)
        traceback = traceback.tb_next


def _add(filename: str) -> None:
    if not filename.startswith("<"):
        _failed.add(filename)


def _templates() -> set[str]:
    """Return the directories of Django's templates, which its cached loader reads but once."""
    apps = sys.modules.get("django.apps")
    # Before that a question about templates would set up what the application has not asked for.
    if apps is None or "django.template.loader" not in sys.modules or not apps.apps.ready:
        return set()
    try:
        from django.template.autoreload import get_template_directories

        return {str(directory) for directory in get_template_directories() if Path(directory).is_dir()}
    except Exception:
        # What the settings say of templates may be wrong: rendering one reports it.
        return set()


def _existing(filename: str) -> str:
    """Return the file, or the archive that it is in (zipapp, shiv, pex)."""
    path = Path(filename)
    for archive in path.parents if filename and not path.exists() else ():
        if archive.is_file():
            return str(archive)
    return filename


def _file(module: object) -> str:
    try:
        file = getattr(module, "__file__", None)
    except Exception:
        # What an application puts into sys.modules may do anything when asked.
        return ""
    return file if isinstance(file, str) else ""
