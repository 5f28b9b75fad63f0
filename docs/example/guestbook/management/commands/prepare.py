"""`manage.py prepare`: make the site ready to be looked at. Harmless when it is ready already."""

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

DEMO_USER = "demo"
DEMO_PASSWORD = "demo"


class Command(BaseCommand):
    """Bring the database up to date and make sure that the demo user exists."""

    help = f"Migrate the database and create the superuser {DEMO_USER!r} with password {DEMO_PASSWORD!r}."

    def handle(self, *_args: Any, **options: Any) -> None:
        """Refuse where the password that everybody knows could do harm."""
        if not settings.DEBUG:
            raise CommandError(
                "prepare makes a superuser with a well-known password; it runs with MYSITE_DEBUG=1 only"
            )
        settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
        call_command("migrate", verbosity=options["verbosity"], interactive=False)
        users = get_user_model().objects
        if not users.filter(username=DEMO_USER).exists():
            users.create_superuser(DEMO_USER, password=DEMO_PASSWORD)
        self.stdout.write(f"ready: {settings.DATA_DIR} (login: {DEMO_USER} / {DEMO_PASSWORD})")
