"""Loads when the test has made the file that GATE names."""

from __future__ import annotations

import os

from apps.gate import wait_for_file
from apps.hello import app

__all__ = ["app"]

wait_for_file(os.environ["GATE"])
