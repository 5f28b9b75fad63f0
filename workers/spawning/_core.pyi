"""The server itself, written in Rust."""

from typing import Final

__version__: Final[str]

def main(words: list[str], interpreter: list[bytes], python: str) -> int:
    """Do what the words of a command line say; return the exit status.

    ``interpreter`` starts this interpreter when more words are added; ``python`` names it.
    """

def status(birth: int) -> int:
    """Be the status process, born through descriptor ``birth``; return the exit status."""

def worker(birth: int) -> int:
    """Live a worker's life, born through descriptor ``birth``; return the exit status."""
