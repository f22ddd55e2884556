"""Helper processes that end when the process that they work for has died."""

from __future__ import annotations

import os
import threading
import time
from typing import Final

_SECONDS_BETWEEN_LOOKS: Final = 0.1


def end_with(parent: int) -> None:
    """End this process as soon as its parent, the process `parent`, is no more.

    Nobody can tell its children when a process is killed outright. Left alone, they would go on
    writing beside the run that the user starts next. (Windows tells no process that its parent
    has died; there a helper finishes what it has in hand.)
    """
    if os.name == "nt":
        return
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent watch").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)
