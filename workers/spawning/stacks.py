"""What a thread is doing, for the log."""

import sys
import traceback
from typing import Any

from spawning.green import MAIN_THREAD


def of_thread(ident: int) -> str:
    """Return the stack of the thread that ``threading.get_ident`` calls ``ident``, as in a traceback."""
    frame = sys._current_frames().get(ident)
    return "".join(traceback.format_stack(frame)) if frame else ""


def of_green_thread(green_thread: Any) -> str:
    """Return the stack of a green thread; of the main thread, if that one runs or has ended."""
    frame = getattr(green_thread, "gr_frame", None)
    return "".join(traceback.format_stack(frame)) if frame else of_thread(MAIN_THREAD)
