"""What may be named as the application: calls of factories, and what is refused at load with the way out."""

from __future__ import annotations

import pytest

from conftest import ServerFactory
from server import run_to_end

EX_SOFTWARE = 70


def checked(*words: str) -> str:
    """What `spawn --check` says of an application that it refuses."""
    ended = run_to_end("--check", *words)
    assert ended.returncode == EX_SOFTWARE, ended.stdout + ended.stderr
    return ended.stderr


def test_a_factory_is_called_with_literal_arguments(server_factory: ServerFactory) -> None:
    server = server_factory("apps.makers:create_named('a (b) c, ', times=2)", "-s1")
    assert server.get("/").body == b"a (b) c, a (b) c, "


@pytest.mark.parametrize(
    "path",
    [
        *[
            "apps.makers:create_app()",
            "apps.makers.create_app()",
            "apps.makers:create_configured(None, True)",
        ],
        *["apps.makers:Instance()", "apps.makers:instance", "apps.makers:Response", "apps.makers:method"],
        *["apps.makers:partial", "apps.makers:decorated", "apps.makers:optional", "apps.makers"],
    ],
)
def test_whatever_takes_two_arguments_is_accepted(path: str) -> None:
    ended = run_to_end("--check", path)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("apps.makers:create_app", "'apps.makers:create_app()'"),
        ("apps.makers:create_named", "'apps.makers:create_named()'"),
        ("apps.makers:create_configured", "'apps.makers:create_configured()'"),
        ("apps.makers:create_with", "'apps.makers:create_with(...)'"),
        ("apps.makers:Instance", "'apps.makers:Instance()'"),
        ("apps.makers:create_async", "async"),
        ("apps.makers:create_async()", "coroutine"),
        ("apps.makers:returns_nothing()", "not callable: it is 'NoneType'"),
        ("apps.makers:raises()", "RuntimeError: no such database"),
        ("apps.makers:create_with()", "TypeError"),
        ("apps.makers:create_with(name)", "literal arguments"),
        ("apps.makers:create_with(1)(2)", "literal arguments"),
        ("apps.makers:create_with(**{'a': 1})", "literal arguments"),
        ("apps.makers:create_with(1", "closing bracket"),
    ],
)
def test_a_factory_that_cannot_be_served_is_refused_with_the_way_out(path: str, hint: str) -> None:
    ended = run_to_end("--check", path)
    assert ended.returncode in (64, EX_SOFTWARE)
    assert hint in ended.stderr


@pytest.mark.parametrize(
    "name",
    [
        *[
            "asgi",
            "asgi_instance",
            "asgi_method",
            "asgi_partial",
            "Asgi",
            "AsgiTwo",
            "asgi_two",
            "asgi_plain",
        ],
        *["asgi_two_words", "asgi_generator", "create_asgi()"],
    ],
)
def test_an_asgi_application_in_every_form_is_refused(name: str) -> None:
    assert "ASGI" in checked(f"apps.makers:{name}")


def test_an_asgi_application_behind_middleware_that_makes_it_wsgi_is_accepted() -> None:
    ended = run_to_end("--check", "apps.makers:asgi_instance", "apps.makers:wsgi_of")
    assert ended.returncode == 0, ended.stderr


def test_sys_argv_holds_no_word_of_the_server(server_factory: ServerFactory) -> None:
    assert server_factory("apps.makers:arguments", "-s1").get("/").body == b"['spawn']"
