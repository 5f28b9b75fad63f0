"""Loads unless the file that BROKEN names exists."""

from __future__ import annotations

import os
from pathlib import Path

from apps.hello import app

__all__ = ["app"]

if Path(os.environ["BROKEN"]).exists():
    raise RuntimeError("broken on purpose")
