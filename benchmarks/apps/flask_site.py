"""A Flask application with one plain view."""

from __future__ import annotations

from flask import Flask, Response

app = Flask(__name__)


@app.get("/plain")
def plain() -> Response:
    """Answer from Python alone."""
    return Response("Hello", content_type="text/plain")
