"""A Django site that keeps its connections to the database, and tells how many it has opened.

Each request holds its connection while it waits, as those of a real site do.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

opened = 0
#: Those that are still there.
held = 0


class Token:
    """Counts while it lives."""

    def __init__(self) -> None:
        global held
        held += 1

    def __del__(self) -> None:
        global held
        held -= 1


local = threading.local()


def count(**_: Any) -> None:
    """Note that a connection was opened."""
    global opened
    opened += 1


def ask(request: HttpRequest) -> HttpResponse:
    """Use the connection of this thread."""
    if not hasattr(local, "token"):
        local.token = Token()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        time.sleep(0.003)
        cursor.fetchall()
    return HttpResponse("asked")


def counts(request: HttpRequest) -> HttpResponse:
    """Tell how many connections were opened, and how many threads have kept something."""
    return JsonResponse({"opened": opened, "held": held})


urlpatterns = [path("ask", ask), path("counts", counts)]

settings.configure(
    SECRET_KEY="not secret",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": ":memory:",
            "CONN_MAX_AGE": None,
        }
    },
)
django.setup()
connection_created.connect(count)

app: WSGIApplication = get_wsgi_application()
