"""The server itself, written in Rust."""

from collections.abc import Sequence
from typing import Final

__version__: Final[str]

def main(words: list[str], interpreter: list[bytes], python: str) -> int:
    """Do what the words of a command line say; return the exit status.

    ``interpreter`` starts this interpreter when more words are added; ``python`` names it.
    """

def reset_in_children(signals: Sequence[int]) -> None:
    """Have forked processes lose the handlers which the signals of these numbers have now."""

def status(bootstrap: int) -> int:
    """Be the status process, started through descriptor ``bootstrap``; return the exit status."""

def worker(bootstrap: int) -> int:
    """Live a worker's life, started through descriptor ``bootstrap``; return the exit status."""

def output_fails(stream: str, reason: str) -> None:
    """Log that what the application prints to ``stream`` is lost from now on."""

def end_is_held(threads: str, stacks: str) -> None:
    """Log which ``threads`` keep this process from ending, and what they do."""

def output_works(stream: str, lines: int) -> None:
    """Log that ``stream`` can be written again, and how many ``lines`` were lost."""

def wait_until_writable(descriptor: int) -> None:
    """Wait until something can be written to the standard stream of that number, or is wrong with it."""
