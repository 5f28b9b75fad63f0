"""Standard output and error of a worker: a line is seen at once, and one that cannot be written is counted.

Python itself would keep what is printed into a pipe until 8 KiB have come together, and raise what a full
disk or a closed pipe answers where the application prints: a line of a log would cost a request.
"""

import io
import sys
from typing import TextIO

from spawning import _core


class LossyFile(io.FileIO):
    """A descriptor to write to, which never fails: what it does not take is counted instead.

    ``label`` is what the log calls it.
    """

    def __init__(self, descriptor: int, label: str) -> None:
        """Write to ``descriptor``, which stays open when this is closed."""
        super().__init__(descriptor, "w", closefd=False)
        self._label = label
        self._lines_lost = 0

    def write(self, data, /) -> int:  # type: ignore[no-untyped-def]  # any buffer, a type that typeshed keeps to itself
        """Write some of ``data``, or count it as lost; return how many bytes that was."""
        try:
            while (written := super().write(data)) is None:
                # Another process has made it non-blocking, for all who share it. print() expects to wait.
                _core.wait_until_writable(self.fileno())
        except OSError as error:
            return self._lose(bytes(data), error)
        if self._lines_lost:
            lines, self._lines_lost = self._lines_lost, 0
            _core.output_works(self._label, lines)
        return written

    def _lose(self, data: bytes, error: OSError) -> int:
        is_first = not self._lines_lost
        # Half a line counts as one: its end is lost as well.
        self._lines_lost += max(data.count(b"\n"), 1)
        if is_first:
            _core.output_fails(self._label, error.strerror or str(error))
        return len(data)


def install() -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` such streams, unless they do not lead where they usually do."""
    sys.stdout = _stream(sys.stdout, 1, "standard output")
    sys.stderr = _stream(sys.stderr, 2, "standard error")
    vars(sys).update(__stdout__=sys.stdout, __stderr__=sys.stderr)


def flush() -> None:
    """Write the half lines that are left, whatever the application has made of the streams."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()  # type: ignore[union-attr]  # None is one of the things that cannot be flushed
        except Exception:  # there is no log left to write to
            continue


def _stream(stream: TextIO, descriptor: int, label: str) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper) or stream.fileno() != descriptor:
        return stream
    # With `python -u`, or PYTHONUNBUFFERED, half lines are not kept either.
    raw = LossyFile(descriptor, label)
    buffer = raw if stream.write_through else io.BufferedWriter(raw)
    replacement = io.TextIOWrapper(
        buffer,
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        line_buffering=True,
        write_through=stream.write_through,
    )
    replacement.mode = "w"  # type: ignore[misc]  # as Python's own have it
    return replacement
