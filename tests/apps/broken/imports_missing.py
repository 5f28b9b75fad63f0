"""Exists, and imports a module that does not."""

import no_such_dependency  # type: ignore[import-not-found]  # noqa: F401
