"""What the person at the terminal sees while it runs: on standard error, so that the table can be piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

BAR_WIDTH = 24


class Progress:
    """A line that says what happens now, rewritten in place on a terminal."""

    def __init__(self) -> None:
        """Find out where the line goes."""
        self.in_place = sys.stderr.isatty()

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Tell of a step of the set-up, and how long it took."""
        self.write(f"{text} ...", end="" if self.in_place else "\n")
        start = time.monotonic()
        ending = "failed"
        try:
            yield
            ending = "done"
        finally:
            self.write(f"{text}: {ending} in {time.monotonic() - start:.0f} s")

    def bar(self, done: int, total: int, text: str, seconds_left: float) -> None:
        """Show how far the measurement is."""
        filled = BAR_WIDTH * done // max(total, 1)
        meter = "#" * filled + "." * (BAR_WIDTH - filled)
        line = f"[{meter}] {done}/{total} {text}, {duration(seconds_left)} left"
        self.write(line, end="" if self.in_place else "\n")

    def note(self, text: str) -> None:
        """Say something that stays."""
        self.write(text)

    def clear(self) -> None:
        """Take the line away."""
        if self.in_place:
            self.write("", end="")

    def write(self, text: str, end: str = "\n") -> None:
        """Write over the line that stands there."""
        start = "\r\033[K" if self.in_place else ""
        print(f"{start}{text}", end=end, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return a length of time as people say it."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
