"""An application that prints in every way there is."""

import logging
import os
import sys
import warnings
from collections.abc import Iterable
from typing import Any

logging.basicConfig(level=logging.INFO)


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Print, raise on /boom, and answer with the process id."""
    if environ["PATH_INFO"] == "/say":
        print("PRINTED")
        print("TO-STDERR", file=sys.stderr)
        logging.info("LOGGED")
        warnings.warn("WARNED", stacklevel=1)
        environ["wsgi.errors"].write("WSGI-ERRORS\n")
    if environ["PATH_INFO"] == "/half":
        print("HALF-A-LINE", end="")
        sys.stderr.write("HALF-TO-STDERR")
    if environ["PATH_INFO"] == "/boom":
        raise RuntimeError("on purpose, " + "x" * 4000)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
