"""What the site remembers."""

import hashlib

from django.core.files.uploadedfile import UploadedFile
from django.db import models


class Entry(models.Model):
    """A message that a visitor left."""

    author = models.CharField(max_length=80)
    message = models.TextField(max_length=2000)
    written_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-written_at", "-id")
        verbose_name_plural = "entries"

    def __str__(self) -> str:
        return f"{self.author}, {self.written_at:%Y-%m-%d}"


class UploadManager(models.Manager):
    """Makes uploads from what a form received."""

    def receive(self, received: UploadedFile) -> "Upload":
        """Keep a received file and note its name, size and digest; it is never in memory as a whole."""
        digest = hashlib.sha256()
        for chunk in received.chunks():
            digest.update(chunk)
        return self.create(
            content=received,
            name=received.name or "unnamed",
            size_bytes=received.size or 0,
            sha256=digest.hexdigest(),
        )


class Upload(models.Model):
    """A file that a visitor sent. Its name on the disk may differ from the one it came with."""

    content = models.FileField(upload_to="uploads/")
    name = models.CharField(max_length=255)
    size_bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    received_at = models.DateTimeField(auto_now_add=True)

    objects = UploadManager()

    class Meta:
        ordering = ("-received_at", "-id")

    def __str__(self) -> str:
        return self.name
