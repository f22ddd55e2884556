"""How far a long run is, on a terminal or elsewhere; how long its engine was busy."""

import datetime
import sys
import threading
import time
from typing import Final

from ...features.errors import count, say
from ...features.journal import progress

_SECONDS_BETWEEN_LINES: Final = 15.0


class Progress:
    """Counts images towards a total, on standard error, or silently; from any thread.

    Other things may be counted, and there need not be a total.
    """

    def __init__(self, total: int | None, *, shown: bool, thing: str = "image") -> None:
        terminal = progress.is_terminal(sys.stderr)
        self._bar = None
        if shown and terminal:
            self._bar = progress.Progress("", total, thing, sys.stderr)
        self._lines = shown and not terminal
        self._total, self._done, self._thing = total, 0, thing
        self._started = self._said = time.monotonic()
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Announce what takes a while before the first image counts."""
        if self._bar is not None:
            from tqdm import tqdm

            with tqdm.external_write_mode(sys.stderr):
                say(text)
        elif self._lines:
            say(text)

    def add(self, images: int) -> None:
        """Count `images` more as done."""
        if not images:
            return
        with self._lock:
            if self._bar is not None:
                self._bar.add(images)
            self._done += images
            now = time.monotonic()
            if self._lines and now - self._said >= _SECONDS_BETWEEN_LINES:
                self._said = now
                rate = self._done / (now - self._started)
                if self._total is None:
                    say(f"{count(self._done, self._thing)}, {rate:.1f} per second")
                    return
                left = datetime.timedelta(seconds=round((self._total - self._done) / rate))
                of = count(self._total, self._thing)
                say(f"{self._done:,} of {of}, {rate:.1f} per second, {left} left")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.end()


class Busy:
    """Counts the seconds in which at least one of several overlapping calls is under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._since = self._first = time.perf_counter()
        self._busy = 0.0

    def begin(self) -> None:
        """Count a call that begins."""
        with self._lock:
            now = time.perf_counter()
            if not self._running:
                if not self._busy:
                    self._first = now
                self._since = now
            self._running += 1

    def end(self) -> None:
        """Count a call that ends."""
        with self._lock:
            self._running -= 1
            if not self._running:
                self._busy += time.perf_counter() - self._since
                self._since = time.perf_counter()

    def seconds(self) -> tuple[float, float]:
        """Busy and idle, from the first call to the last."""
        with self._lock:
            # A thread that waits for a call is told before `end` is, so one may still be open.
            last = time.perf_counter() if self._running else self._since
            busy = self._busy + (last - self._since)
            return busy, last - self._first - busy
