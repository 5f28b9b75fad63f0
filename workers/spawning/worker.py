"""A worker process: ``python -m spawning.worker FD``, started by the supervisor alone."""

import os
import sys

from spawning import _core


def main() -> None:
    """Serve until the supervisor says otherwise."""
    status = _core.worker(int(sys.argv[1]))
    if status:
        # Threads of the application may hang: do not wait for them, but keep what was printed.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
