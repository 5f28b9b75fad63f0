"""Sets handlers in C while it is loaded, as `faulthandler` does."""

import faulthandler
import os
import signal
from collections.abc import Callable, Iterable

for name in os.environ.get("DUMP_STACKS_ON", "").split():
    faulthandler.register(getattr(signal, name))


def app(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
