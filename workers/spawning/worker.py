"""A worker process: ``python -m spawning.worker FD``, started by the supervisor alone.

The words after the descriptor are for those who read ``ps``.
"""

import os
import sys

from spawning import _core, ending, interpreter, signals, streams


def main() -> None:
    """Serve until the supervisor says otherwise."""
    bootstrap = int(sys.argv[1])
    streams.install()
    signals.prepare()
    interpreter.hide_arguments()
    status = _core.worker(bootstrap)
    streams.flush()
    if status:
        # Threads of the application may hang: do not wait for them.
        os._exit(status)
    ending.watch()


if __name__ == "__main__":
    main()
