"""The release build is trained by a program that must run to its end, on any build."""

from __future__ import annotations

import subprocess
import sys

from server import TESTS


def test_what_trains_the_release_build_runs() -> None:
    subprocess.run([sys.executable, "-m", "benchmarks.train"], cwd=TESTS.parent, check=True)
