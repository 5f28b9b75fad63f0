"""Reports its environ, and then spoils it: PEP 3333 lets an application modify the dictionary in any way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from wsgiref.validate import validator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def describe(value: object) -> dict[str, object]:
    """The exact type's name, the value where JSON can carry it, and the methods that PEP 3333 asks for."""
    methods = ("read", "readline", "readlines", "__iter__", "write", "writelines", "flush", "__call__")
    return {
        "type": type(value).__name__,
        "value": value if isinstance(value, (str, bool, tuple)) else None,
        "methods": [name for name in methods if hasattr(value, name)],
    }


def report(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers with a description of every entry, as JSON; the method also in a field."""
    kind = type(environ).__name__
    body = json.dumps({"type": kind, "values": {key: describe(value) for key, value in environ.items()}})
    method = environ["REQUEST_METHOD"]
    environ.clear()
    environ["LEAKED"] = "from an earlier request"
    start_response("200 OK", [("Content-Type", "application/json"), ("X-Request-Method", method)])
    return [body.encode()]


#: As it is: what the server itself puts under `wsgi.input` and `wsgi.errors`.
bare = report
#: The same under the standard library's validator, which wraps these two.
app = validator(report)
