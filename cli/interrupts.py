"""Ctrl-C ends a command within a second, also where Python does not hear it.

A signal waits until the main thread is back from the library that it is in, and fitting a machine
to many images may take a library minutes. A thread of ours hears of it at once. It gives the main
thread time to end the command as it should; where that has not even heard by then, it says what
the command would have said, removes what was being written, and ends the process.
"""

import _thread
import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Final

INTERRUPTED: Final = 130
"""Exit code."""
_PATIENCE: Final = 0.5
"""Seconds that the main thread has to hear of an interrupt."""


def listen() -> None:
    """Have it so in this process, unless whoever started it wants interrupts to be ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    heard = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        heard.set()
        signal.default_int_handler(number, frame)

    def wait() -> None:
        while numbers := woken.recv(64):
            # Whoever has put another handler in place hears for himself.
            ours = signal.SIGINT in numbers and signal.getsignal(signal.SIGINT) is interrupt
            if ours and not heard.wait(_PATIENCE):
                _end(heard)

    signal.signal(signal.SIGINT, interrupt)
    signal.set_wakeup_fd(waker.detach(), warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):  # what a fork hears is not ours
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    sys.unraisablehook = _raised_again
    threading.Thread(target=wait, name="interrupts", daemon=True).start()


def _raised_again(lost: "sys.UnraisableHookArgs") -> None:
    """Interrupt once more where Python would print the first one and go on: within a callback."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        _thread.interrupt_main()
    else:
        sys.__unraisablehook__(lost)


def _end(heard: threading.Event) -> None:
    """End this process as if the main thread had heard, unless it has by now."""
    from ..features import durable
    from ..features.errors import say
    from ..features.journal.progress import end_bars

    if heard.is_set():
        return
    end_bars()
    durable.drop_unfinished()
    say("headstart: interrupted")
    os._exit(INTERRUPTED)
