"""An application below a prefix, which the command line, the platform or a proxy names."""

from __future__ import annotations

import pytest

from conftest import ServerFactory
from server import run_to_end

PATHS = [
    ("/shop", "/shop|"),
    ("/shop/", "/shop|/"),
    ("/shop/cart?a=/shop", "/shop|/cart"),
    ("/sh%6Fp/c%2Fart", "/shop|/c/art"),
    ("/shop/shop/cart", "/shop|/shop/cart"),
    # Outside, as a proxy that takes the prefix off sends it.
    ("/cart", "/shop|/cart"),
    ("/shopping", "/shop|/shopping"),
    ("/", "/shop|/"),
    ("/Shop/cart", "/shop|/Shop/cart"),
]


@pytest.mark.parametrize("way", ["option", "slash", "own variable", "platform's variable"])
def test_the_prefix_is_taken_off_the_path(server_factory: ServerFactory, way: str) -> None:
    words = {"option": ["--script-name=/shop"], "slash": ["--script-name", "/shop/"]}.get(way, [])
    variables = {
        "own variable": {"SPAWN_SCRIPT_NAME": "/shop"},
        "platform's variable": {"SCRIPT_NAME": "/shop"},
    }
    server = server_factory("apps.mounted:app", "-s1", *words, environment=variables.get(way, {}))
    for path, expected in PATHS:
        assert server.get(path).body.decode() == expected, path


def test_a_prefix_may_have_any_characters(server_factory: ServerFactory) -> None:
    server = server_factory("apps.mounted:app", "-s1", "--script-name=/lädchen")
    assert server.get("/l%C3%A4dchen/a").body.decode() == "/lädchen|/a"


def test_without_a_prefix_the_whole_path_is_the_applications(server_factory: ServerFactory) -> None:
    server = server_factory("apps.mounted:app", "-s1")
    assert server.get("/shop/cart", {"X-Forwarded-Prefix": "/shop"}).body == b"|/shop/cart"


def test_a_trusted_proxy_names_the_prefix_and_overrules_the_option(server_factory: ServerFactory) -> None:
    server = server_factory("apps.mounted:app", "-s1", "--trusted-proxies=127.0.0.1", "--script-name=/own")
    for path, expected in PATHS:
        assert server.get(path, {"X-Forwarded-Prefix": "/shop/"}).body.decode() == expected, path
    assert server.get("/own/a").body == b"/own|/a"
    assert server.get("/own/a", {"X-Forwarded-Prefix": "/"}).body == b"|/own/a"
    for prefix in ["//evil.example", "shop"]:
        assert server.get("/a", {"X-Forwarded-Prefix": prefix}).status == 400, prefix


def test_nobody_else_names_it(server_factory: ServerFactory) -> None:
    server = server_factory("apps.mounted:app", "-s1", "--trusted-proxies=192.0.2.1")
    assert server.get("/shop/cart", {"X-Forwarded-Prefix": "/shop"}).body == b"|/shop/cart"


def test_a_prefix_that_is_no_path_is_refused() -> None:
    ended = run_to_end("--script-name=shop", "apps.mounted:app")
    assert ended.returncode == 64
    assert "--script-name" in ended.stderr
    ended = run_to_end("apps.mounted:app", environment={"SCRIPT_NAME": "shop"})
    assert (ended.returncode, ended.stderr.split(":")[1]) == (64, " SCRIPT_NAME")
