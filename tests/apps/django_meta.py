"""A Django site without files: what Django makes of a request whose peer has no address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def meta(request: HttpRequest) -> HttpResponse:
    """Reads all that could trip over the peer's or the server's address."""
    return JsonResponse(
        {
            "remote": request.META["REMOTE_ADDR"],
            "host": request.get_host(),
            "port": request.get_port(),
            "url": request.build_absolute_uri("/there"),
        }
    )


def raises(request: HttpRequest) -> HttpResponse:
    """Makes Django print its page of the whole environ."""
    raise RuntimeError("on purpose")


urlpatterns = [path("meta", meta), path("raises", raises)]

settings.configure(
    DEBUG=True,
    SECRET_KEY="not secret",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["localhost", "example.org"],
    INTERNAL_IPS=["127.0.0.1"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)
django.setup()
app: WSGIApplication = get_wsgi_application()
