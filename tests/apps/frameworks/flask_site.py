"""The site in Flask."""

from flask import Flask, request

from apps.frameworks.meeting import meet

app = Flask(__name__)


@app.get("/hello/<name>")
def hello(name: str) -> str:
    return f"Hello {name}"


@app.post("/echo")
def echo() -> str:
    return request.form["text"]


@app.get("/together")
def together() -> str:
    return meet(int(request.query_string))


@app.get("/fail")
def fail() -> str:
    raise RuntimeError("failed on purpose")
