"""A Django project in one file: a plain view, a template and a query.

Its applications and middleware are those that `startproject` gives every project.
"""

# mypy: disable-error-code="import-not-found,import-untyped,misc,var-annotated"

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import models
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import engines
from django.urls import path

from .data import made_once

BOOKS = 1000
PAGE_BOOKS = 20

TEMPLATE = """<!doctype html>
<title>{{ title }}</title>
<ul>
{% for item in items %}<li class="{% cycle 'odd' 'even' %}">
  {{ item.name|title }}: {{ item.price|floatformat:2 }}</li>
{% endfor %}</ul>
"""


def write_database(file: Path) -> None:
    """Write the table that `/orm` reads."""
    connection = sqlite3.connect(file)
    connection.execute(
        "CREATE TABLE book (id INTEGER PRIMARY KEY, title TEXT NOT NULL, pages INTEGER NOT NULL)"
    )
    rows = [(f"Book {number:04}", 100 + number) for number in range(BOOKS)]
    connection.executemany("INSERT INTO book (title, pages) VALUES (?, ?)", rows)
    connection.commit()
    connection.close()


settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"file:{made_once('books.sqlite3', write_database)}?mode=ro",
            "OPTIONS": {"uri": True},
            "CONN_MAX_AGE": None,
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
    ],
    LOGGING_CONFIG=None,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="benchmark",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    USE_I18N=False,
)
django.setup()


class Book(models.Model):
    """A row of the table that `write_database` wrote."""

    title = models.TextField()
    pages = models.IntegerField()

    class Meta:
        """Where the table is: this file is no installed app, so Django has to be told."""

        app_label = "benchmarks"
        db_table = "book"


PAGE = engines["django"].from_string(TEMPLATE)
ITEMS = [{"name": f"item number {number}", "price": number * 1.1} for number in range(PAGE_BOOKS)]


def plain(request: HttpRequest) -> HttpResponse:
    """Answer from Python alone."""
    return HttpResponse("Hello", content_type="text/plain")


def template(request: HttpRequest) -> HttpResponse:
    """Render a small page."""
    return HttpResponse(PAGE.render({"title": "Items", "items": ITEMS}, request))


def orm(request: HttpRequest) -> JsonResponse:
    """Read twenty rows by the ORM."""
    books: list[dict[str, Any]] = list(
        Book.objects.filter(pages__gte=200).order_by("id").values()[:PAGE_BOOKS]
    )
    return JsonResponse({"books": books})


urlpatterns = [path("plain", plain), path("template", template), path("orm", orm)]

app = get_wsgi_application()
