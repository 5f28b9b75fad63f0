"""An application whose code changes while it is served: `site_code.py` in a directory of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

APP = "site_code:app"
MODULE = "site_code.py"
#: Without cached bytecode: two versions of one size within a second look the same to Python.
ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1"}

CODE = """\
{before}

def app(environ, start_response):
    body = {answer!r}.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


def write(directory: Path, answer: str, before: str = "", module: str = MODULE) -> None:
    """Make the application answer `answer`, after code of its own at import; as editors do, by a rename."""
    text = CODE.format(before=before, answer=answer)
    scratch = directory / f"{module}.new"
    scratch.write_text(text)
    scratch.replace(directory / module)


def touch(path: Path) -> None:
    """Give a file a time that it never had."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000))
