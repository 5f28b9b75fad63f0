"""``python -m spawning.evaluate``: says what a config factory sets, so that the supervisor need not run it.

The question comes as JSON on standard input, the answer goes as JSON to standard output. What the factory
prints goes to standard error. A factory or an application that cannot be loaded is told there, with its
traceback, and ends this process with status 70. With ``--reload dev`` it is tried again when a file has
changed.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from spawning import interpreter, loader, watch
from spawning.importer import LoadError

EX_SOFTWARE = 70
POLL_INTERVAL_S = 0.2

# What Spawning 0.9 called options of the command line.
OPTION_NAMES = {"num_processes": "processes", "threadpool_workers": "threads"}


def answer(options: dict[str, Any], config: dict[str, Any]) -> str:
    """Return as JSON, by their names on the command line, the options that the factory has changed or added.

    Keys that no option has may be among them; values that JSON does not know are not.
    """
    changed: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, bool | int | float | str | list) and options.get(key) != value:
            changed[OPTION_NAMES.get(key, key)] = value
    if changed.pop("dev", False):
        changed.setdefault("reload", "dev")
    return json.dumps(changed, skipkeys=True, default=str)


def evaluate(question: dict[str, Any]) -> str:
    """Call the factory, and make the application if that is asked; return the answer."""
    factory, options = question["factory"], question["options"]
    loader.prepare(options)
    config = loader.configure(factory, dict(options))
    for warning in config.get("warnings", ()):
        print(f"spawn: {warning}", file=sys.stderr)
    if question["load"]:
        loader.make_application(factory, config)
    return answer(options, config)


def wait_for_change(error: LoadError) -> None:
    """Return when a source that ``error`` came through has changed, or one beside it; end with the parent.

    What fails before there is anything to serve leaves no worker that could watch.
    """
    watch.remember(error)
    directories = {Path(file).parent for file in watch.new_files()} | {Path.cwd()}
    parent, before = os.getppid(), sources(directories)
    print("spawn: waiting for a file to change", file=sys.stderr, flush=True)
    while sources(directories) == before:
        if os.getppid() != parent:
            os._exit(EX_SOFTWARE)
        time.sleep(POLL_INTERVAL_S)
    time.sleep(POLL_INTERVAL_S)  # An editor may not have written all of it yet.


def sources(directories: set[Path]) -> dict[str, tuple[int, int, int]]:
    """Return what tells versions of the files there apart."""
    found = {}
    for directory in directories:
        for path in directory.iterdir():
            if path.suffix in {".py", ".ini", ".toml"} or path.name == ".env":
                try:
                    stat = path.stat()
                except OSError:
                    continue
                found[str(path)] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return found


def begin_anew(question: dict[str, Any], reply: int) -> None:
    """Ask the same of a fresh interpreter in this process."""
    again = os.memfd_create("question")
    os.write(again, json.dumps(question).encode())
    os.lseek(again, 0, os.SEEK_SET)
    os.dup2(again, sys.stdin.fileno())
    os.dup2(reply, sys.stdout.fileno())
    os.execv(sys.executable, sys.orig_argv)


def main() -> None:
    """Answer, and end without waiting for threads that the user's code has left running."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    interpreter.hide_arguments()
    reply = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    status = 0
    question = json.load(sys.stdin)
    try:
        text = evaluate(question)
        with open(reply, "w", encoding="utf-8") as stream:  # noqa: PTH123 (a descriptor has no path)
            stream.write(text)
    except LoadError as error:
        print(f"spawn: cannot load the application: {error.summary}", file=sys.stderr)
        if error.traceback:
            print(error.traceback, file=sys.stderr)
        if question["options"].get("dev") and not question["load"]:
            wait_for_change(error)
            begin_anew(question, reply)
        status = EX_SOFTWARE
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
