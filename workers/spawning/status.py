"""The status process: ``python -m spawning.status FD``, started by the supervisor. No user code runs here.

That is also why nothing is imported that Python has not imported already: the current directory, which is the
application's, comes first on the path.
"""

import os
import sys

from spawning import _core


def main() -> None:
    """Answer until the supervisor ends."""
    # The thread that answers never ends by itself.
    os._exit(_core.status(int(sys.argv[1])))


if __name__ == "__main__":
    main()
