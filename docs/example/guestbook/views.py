"""One function per page, from the plainest to the one that moves megabytes."""

import os
import threading

from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_safe

from guestbook.forms import EntryForm, UploadForm
from guestbook.models import Entry, Upload

ENTRIES_SHOWN = 50
UPLOADS_SHOWN = 50

FAVICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">'
    '<circle cx="4.5" cy="4.5" r="4" fill="#417690"/></svg>'
)


@require_safe
def hello(_request: HttpRequest) -> HttpResponse:
    """No template, no database, no session: what is left is the server and Django itself."""
    return HttpResponse("Hello from Django.\n", content_type="text/plain")


@require_safe
def favicon(_request: HttpRequest) -> HttpResponse:
    """The icon that every browser asks for, unasked."""
    return HttpResponse(FAVICON, content_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})


@require_safe
def about(request: HttpRequest) -> HttpResponse:
    """Who answered: a page made by a template, and a session that counts your visits."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    facts = {
        "Server": request.META.get("SERVER_SOFTWARE", "unknown"),
        "Protocol": request.META["SERVER_PROTOCOL"],
        "Process": os.getpid(),
        "Thread": threading.current_thread().name,
        "Several processes": request.META["wsgi.multiprocess"],
        "Several threads": request.META["wsgi.multithread"],
        "Your visits": request.session["visits"],
    }
    return render(request, "guestbook/about.html", {"facts": facts})


@require_safe
def entries(request: HttpRequest) -> HttpResponse:
    """The guestbook: a query and a list."""
    newest = Entry.objects.all()[:ENTRIES_SHOWN]
    return render(request, "guestbook/entries.html", {"entries": newest, "total": Entry.objects.count()})


def sign(request: HttpRequest) -> HttpResponse:
    """Write into the guestbook: a form, protected from forgery by its token."""
    form = EntryForm(request.POST or None)
    if form.is_valid():
        form.save()
        return redirect("entries")
    return render(request, "guestbook/sign.html", {"form": form})


def uploads(request: HttpRequest) -> HttpResponse:
    """The files sent so far, and the form that takes one more."""
    form = UploadForm(request.POST or None, request.FILES or None)
    if form.is_valid():
        Upload.objects.receive(form.cleaned_data["file"])
        return redirect("uploads")
    return render(
        request, "guestbook/uploads.html", {"form": form, "uploads": Upload.objects.all()[:UPLOADS_SHOWN]}
    )


@require_safe
def download(_request: HttpRequest, upload_id: int) -> FileResponse:
    """The bytes of one upload, handed to the server as an open file (PEP 3333's `wsgi.file_wrapper`)."""
    upload = get_object_or_404(Upload, pk=upload_id)
    return FileResponse(upload.content.open("rb"), as_attachment=True, filename=upload.name)
