"""The ``spawn`` command: all but ``spawn console`` is done by :mod:`spawning._core`."""

import os
import platform
import signal
import sys

from spawning import _core, interpreter


def main() -> int:
    """Run the supervisor, or say why not; return the exit status."""
    if sys.argv[1:2] == ["console"]:
        from spawning import console

        return console.main(sys.argv[2:])
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the supervisor reads its signals itself, an interrupt just ends it, without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    name = f"{platform.python_implementation()} {platform.python_version()}"
    return _core.main(sys.argv[1:], [os.fsencode(word) for word in interpreter.command()], name)


if __name__ == "__main__":
    sys.exit(main())
