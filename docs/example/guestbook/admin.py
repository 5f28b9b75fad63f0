"""What the admin shows of the guestbook."""

from django.contrib import admin
from django.http import HttpRequest

from guestbook.models import Entry, Upload


@admin.register(Entry)
class EntryAdmin(admin.ModelAdmin):
    """Entries, to be read and weeded."""

    list_display = ("author", "message", "written_at")
    search_fields = ("author", "message")


@admin.register(Upload)
class UploadAdmin(admin.ModelAdmin):
    """Uploads, to be looked at and deleted; the upload page alone takes them in, with their digest."""

    list_display = ("name", "size_bytes", "sha256", "received_at")
    readonly_fields = ("content", "name", "size_bytes", "sha256", "received_at")

    def has_add_permission(self, _request: HttpRequest) -> bool:
        """Nobody adds one here."""
        return False
