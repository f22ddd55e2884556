"""How far a long run is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Final

_SECONDS_BETWEEN_LINES: Final = 15.0


class Progress:
    """Counts images towards a total, on standard error.

    Parameters
    ----------
    total : int
        Images to go.
    shown : bool
        False counts silently.
    """

    def __init__(self, total: int, *, shown: bool) -> None:
        from tqdm import tqdm

        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            unit="image",
            unit_scale=False,
            smoothing=0.05,
            disable=not (shown and terminal),
            dynamic_ncols=True,
            leave=False,
        )
        self._shown = shown
        self._lines = shown and not terminal
        self._total, self._done = total, 0
        self._started = self._said = time.monotonic()

    def say(self, text: str) -> None:
        """Announce what takes a while before the first image counts."""
        if self._shown:
            self._bar.write(text, file=sys.stderr)

    def add(self, images: int) -> None:
        """Count `images` more as done."""
        if not images:
            return
        self._bar.update(images)
        self._done += images
        now = time.monotonic()
        if self._lines and now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            rate = self._done / (now - self._started)
            left = self._bar.format_interval((self._total - self._done) / rate)
            print(
                f"{self._done:,} of {self._total:,} images, {rate:.1f} a second, {left} left",
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()
