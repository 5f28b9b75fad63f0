"""A module with both names that Spawning looks for when a module is all it is given."""

from apps.hello import app
from apps.middleware import app as application

__all__ = ["app", "application"]
