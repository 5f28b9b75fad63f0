"""The site in Django, in one file, which is its settings too."""

import os

from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from apps.frameworks.meeting import meet

ROOT_URLCONF = __name__
SECRET_KEY = "known to everybody, for tests alone, and of more than fifty characters"
ALLOWED_HOSTS = ["127.0.0.1"]


def hello(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(f"Hello {name}")


@csrf_exempt
def echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.POST["text"])


def together(request: HttpRequest) -> HttpResponse:
    return HttpResponse(meet(int(request.META["QUERY_STRING"])))


def fail(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("failed on purpose")


urlpatterns = [
    path("hello/<str:name>", hello),
    path("echo", echo),
    path("together", together),
    path("fail", fail),
]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)
application = get_wsgi_application()
