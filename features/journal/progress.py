"""How far a long step is: counted by whoever takes it, shown to whoever asked.

Whether anybody looks is a context variable. Between a command, which knows that somebody sits at a
terminal, and a loop over rows lie ten functions that would hand a parameter on and have no use for
it. The command, or a caller of the library, says `showing_progress`; the loop opens a `step` and
counts, and knows neither of terminals nor of who asked. Without being asked, nothing is shown.

A bar appears once a step has lasted for `DELAY` seconds, on a terminal only, and leaves nothing
behind. A thread of its own draws it: counting costs an addition, and the clock runs on while the
step is within a library.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

from ..errors import printable

DELAY: float = 2.0
"""Seconds that a step lasts without a bar."""
_BETWEEN: Final = 0.2
"""Seconds after which a bar is drawn again."""
_LARGE: Final = 10_000
"""Totals from which on units are counted in thousands."""
_AT_MOST: Final = 1.0
"""Seconds that ending all bars may take: a thread cannot draw while a library lets no other run."""

_stream: ContextVar[Callable[[], Any] | None] = ContextVar("stream", default=None)
"""Where bars are drawn, if anybody wants to see them."""
_part_of: ContextVar[str] = ContextVar("part_of", default="")
"""What the steps that follow are a part of."""
_bars: Final[set[Progress]] = set()
"""Those that may be on a terminal now."""


@contextlib.contextmanager
def showing_progress(wanted: bool = True, *, stream: Any = None) -> Iterator[None]:
    """Within this, steps that take a while have a bar on standard error, if that is a terminal.

    Parameters
    ----------
    wanted : bool, default=True
        If false, nothing changes: what was asked for further out is shown.
    stream : file, optional
        Another one to show them on.

    Examples
    --------
    >>> from headstart.features import showing_progress
    >>> with showing_progress():
    ...     pass  # train(FeatureStore("pets.h5"))
    """
    before = _stream.get()
    token = _stream.set((lambda: stream or sys.stderr) if wanted else before)
    try:
        yield
    finally:
        _stream.reset(token)
        if before is None:
            end_bars()  # those of loops that an error has left, while it is on its way


def shown() -> bool:
    """Whether steps have bars here."""
    stream = _stream.get()
    return stream is not None and is_terminal(stream())


@contextlib.contextmanager
def part_of(what: str) -> Iterator[None]:
    """Within this, bars say what their steps are a part of."""
    token = _part_of.set(_within(what))
    try:
        yield
    finally:
        _part_of.reset(token)


@contextlib.contextmanager
def step(what: str, total: int | None = None, unit: str = "row") -> Iterator[Progress]:
    """Take a step of `total` units, which the body counts; without a total only a clock is shown.

    Steps are opened by the thread that was asked for them, and counted by any.
    """
    stream = _stream.get()
    if stream is None or not is_terminal(stream()):
        yield Progress(_within(what), total, unit)
        return
    counted = Progress(_within(what), total, unit, stream())
    try:
        yield counted
    finally:
        counted.end()


class Progress:
    """Counts how far a step is; given a stream, shows it there."""

    def __init__(
        self, what: str = "", total: int | None = None, unit: str = "", stream: Any = None
    ) -> None:
        self._what, self._total, self._unit, self._stream = what, total, unit, stream
        self._done, self._began = 0, time.time()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._drawing: threading.Thread | None = None
        if stream is not None:
            self._drawing = threading.Thread(target=self._draw, name="progress", daemon=True)
            self._drawing.start()
            _bars.add(self)

    def add(self, number: int) -> None:
        """Count so many more units as done."""
        with self._lock:
            self._done += number

    def end(self) -> None:
        """Take the bar away."""
        self._ended.set()
        if self._drawing is not None:
            self._drawing.join(_AT_MOST)
        _bars.discard(self)

    def _draw(self) -> None:
        if self._ended.wait(DELAY):
            return
        from tqdm import tqdm  # which most steps end without

        with tqdm(
            desc=printable(self._what) or None,
            total=self._total,
            unit=self._unit,
            unit_scale=(self._total or 0) >= _LARGE,
            bar_format="{desc}: {elapsed}" if self._total is None else None,
            delay=DELAY,  # or it is drawn before it is told when it began
            smoothing=0.05,
            dynamic_ncols=True,
            leave=False,
            file=self._stream,
        ) as bar:
            bar.start_t = bar.last_print_t = self._began
            bar.delay = 0
            while True:
                if not bar.update(self._done - bar.n):
                    bar.refresh()
                if self._ended.wait(_BETWEEN):
                    return


def _within(what: str) -> str:
    return ", ".join(one for one in (_part_of.get(), what) if one)


def end_bars() -> None:
    """Take all bars away, before something else is written where they are."""
    for bar in tuple(_bars):
        bar.end()


def wipe() -> None:
    """Clear the line of a bar that another process has left."""
    columns = shutil.get_terminal_size().columns
    with contextlib.suppress(AttributeError, OSError, ValueError):
        print(f"\r{' ' * (columns - 1)}\r", end="", file=sys.stderr, flush=True)


def is_terminal(stream: Any) -> bool:
    """Whether somebody reads along; a service has no stream, a notebook one that is no file."""
    try:
        return bool(stream.isatty())
    except (AttributeError, OSError, TypeError, ValueError):
        return False
