"""A Flask application that says which worker answers, and which agents follow the request."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from flask import Flask, jsonify

app = Flask(__name__)


def _agent(name: str) -> Any:
    """The module, which is of no package that the checks have types of."""
    return importlib.import_module(name)


def _opentelemetry() -> bool:
    return bool(_agent("opentelemetry.trace").get_current_span().get_span_context().is_valid)


def _ddtrace() -> bool:
    return _agent("ddtrace.trace").tracer.current_span() is not None


def _newrelic() -> bool:
    # It begins no transaction before its collector has answered.
    return hasattr(Flask.wsgi_app, "__wrapped__")


AGENTS = {"opentelemetry": _opentelemetry, "ddtrace": _ddtrace, "newrelic": _newrelic}


@app.get("/")
def who() -> Any:
    """Return the worker and the agents that follow this request; none is imported for that."""
    followed = [name for name, follows in AGENTS.items() if name in sys.modules and follows()]
    return jsonify(pid=os.getpid(), followed_by=followed)
