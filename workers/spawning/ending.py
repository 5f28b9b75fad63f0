"""What keeps a worker from ending once it has served: threads that are no daemons, and what runs at exit."""

import sys
import threading
import time
import traceback

from spawning import _core

#: A process that takes longer has something to hide.
PATIENCE_S = 1.0


def watch() -> None:
    """Have what keeps this process from ending named in the log, if that is still there after a moment."""
    threading.Thread(target=_watch, args=(threading.current_thread(),), name="ending", daemon=True).start()


def _watch(main: threading.Thread) -> None:
    time.sleep(PATIENCE_S)
    held = [thread for thread in threading.enumerate() if not thread.daemon and thread is not main]
    frames = sys._current_frames()
    stacks = []
    for thread in held or [main]:
        if frame := frames.get(thread.ident or 0):
            stacks += [f"Thread {thread.name!r}:\n", *traceback.format_stack(frame)]
    _core.end_is_held(", ".join(thread.name for thread in held), "".join(stacks))
