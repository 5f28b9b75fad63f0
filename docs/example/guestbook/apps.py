"""The app as Django's registry knows it."""

from django.apps import AppConfig


class GuestbookConfig(AppConfig):
    """A guestbook, and a shelf for uploaded files."""

    name = "guestbook"
