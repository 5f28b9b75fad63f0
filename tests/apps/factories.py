"""Config factories as users write them, good and bad. Each notes its process in the file CALLS_FILE names."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.routes import PLAIN_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

if calls_file := os.environ.get("CALLS_FILE"):
    with Path(calls_file).open("a") as calls:
        calls.write(f"{os.getpid()}\n")


def shows_options(args: dict[str, Any]) -> dict[str, Any]:
    """Adds a key of its own and leaves every option as it was."""
    return {**args, "app_factory": "apps.factories.showing", "own": "key"}


def sets_options(args: dict[str, Any]) -> dict[str, Any]:
    """Sets, from the JSON object in SETTINGS, what 0.9 lets a factory set."""
    args.update(json.loads(os.environ["SETTINGS"]))
    args["app_factory"] = "apps.factories.showing"
    return args


def gives_a_callable(args: dict[str, Any]) -> dict[str, Any]:
    """Names its app factory by the object itself, and prints while at it."""
    print("printed by the factory")
    return {**args, "app_factory": showing}


def showing(config: dict[str, Any]) -> WSGIApplication:
    """An application that answers with the configuration it was made of."""
    shown = json.dumps(config, default=repr).encode()

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", list(PLAIN_TEXT))
        return [shown]

    return application


def tells_its_user(args: dict[str, Any]) -> dict[str, Any]:
    """Adds as whom it runs."""
    who = {"users": os.getresuid(), "groups": os.getresgid(), "supplementary": os.getgroups()}
    print(f"factory runs as {json.dumps(who)}", file=sys.stderr, flush=True)
    return shows_options(args)


def tells_what_it_inherits(args: dict[str, Any]) -> dict[str, Any]:
    """Adds the sockets it can see, and what systemd says to the server alone."""
    links = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    sockets = sum(str(link).startswith("socket:") for link in links)
    told = [name for name in os.environ if name.startswith(("LISTEN_", "NOTIFY_", "WATCHDOG_"))]
    print(f"factory inherits {sockets} sockets, {told}", file=sys.stderr, flush=True)
    return shows_options(args)


def raises(args: dict[str, Any]) -> dict[str, Any]:
    """Fails as user code does."""
    raise RuntimeError("raised by the factory")


def returns_nothing(args: dict[str, Any]) -> None:
    """Forgets its return statement."""


def names_no_app_factory(args: dict[str, Any]) -> dict[str, Any]:
    """Forgets the one key that is needed."""
    return args


def names_a_missing_app_factory(args: dict[str, Any]) -> dict[str, Any]:
    """Has a typing error in its app factory, which only those who load the application find."""
    return {**args, "app_factory": "apps.factories.no_such"}


def hangs(args: dict[str, Any]) -> dict[str, Any]:
    """Waits for what never comes, with a thread that never ends either."""
    threading.Thread(target=threading.Event().wait).start()
    threading.Event().wait()
    return args


def leaves_a_thread(args: dict[str, Any]) -> dict[str, Any]:
    """Returns, but leaves a thread behind that would keep an interpreter from ending."""
    threading.Thread(target=threading.Event().wait).start()
    return shows_options(args)


def dies(args: dict[str, Any]) -> dict[str, Any]:
    """Crashes as a bad extension module does."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return args


def answers_too_much(args: dict[str, Any]) -> dict[str, Any]:
    """Adds a key of more than a mebibyte."""
    return {**shows_options(args), "own": "x" * (1024 * 1024)}
