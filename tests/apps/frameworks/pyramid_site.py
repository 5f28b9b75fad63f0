"""The site in Pyramid."""

from typing import Any

from pyramid.config import Configurator
from pyramid.response import Response

from apps.frameworks.meeting import meet


def hello(request: Any) -> Any:
    return Response(f"Hello {request.matchdict['name']}")


def echo(request: Any) -> Any:
    return Response(request.POST["text"])


def together(request: Any) -> Any:
    return Response(meet(int(request.query_string)))


def fail(request: Any) -> Any:
    raise RuntimeError("failed on purpose")


def settings(request: Any) -> Any:
    """The application's settings, as the ini file gives them."""
    return {key: value for key, value in request.registry.settings.items() if isinstance(value, str)}


def main(global_config: dict[str, str], **settings_of_file: str) -> Any:
    """What Paste calls `paste.app_factory`."""
    with Configurator(settings={**global_config, **settings_of_file}) as config:
        for name, pattern, view in [
            ("hello", "/hello/{name}", hello),
            ("echo", "/echo", echo),
            ("together", "/together", together),
            ("fail", "/fail", fail),
        ]:
            config.add_route(name, pattern)
            config.add_view(view, route_name=name)
        config.add_route("settings", "/settings")
        config.add_view(settings, route_name="settings", renderer="json")
        return config.make_wsgi_app()


app = main({})
