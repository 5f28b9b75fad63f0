"""The site in Bottle."""

from bottle import Bottle, request

from apps.frameworks.meeting import meet

app = Bottle()


@app.get("/hello/<name>")
def hello(name: str) -> str:
    # Bottle hands over what the URL's bytes are as latin-1; every other framework decodes them as UTF-8.
    return f"Hello {name}"


@app.post("/echo")
def echo() -> str:
    return str(request.forms.text)


@app.get("/together")
def together() -> str:
    return meet(int(request.query_string))


@app.get("/fail")
def fail() -> str:
    raise RuntimeError("failed on purpose")
