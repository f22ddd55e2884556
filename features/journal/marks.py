"""Marks of a run that others work for: as long as its mark is there, they may publish for it.

Workers of a cluster outlive the process that gave them their work. The next run on the same output
removes what marks it finds, so that nothing appears beside it that was made for an older one. That
a worker finds the mark shows, too, that it sees the same folder.

At a URL there is none. Two runs may be at work there at once and have each other's units, so what
is published for an older one is a unit like any other, by one request that changes nothing where
it has been made again; and as nobody holds a lock there, the mark of a run that was killed could
not be told from that of one at work elsewhere. Made in vain is at most what was in hand, and not by
workers that hear that the run is over.
"""

import contextlib
import secrets
from pathlib import Path
from typing import Final

from .. import durable
from ..errors import FeatureFileError
from .units import folder_of

_ENDING: Final = ".run"


class Unseen(FeatureFileError):
    """The folder in which a run keeps its units is not there."""


class Unmarked(FeatureFileError):
    """The folder of units is there, and the mark of a run is not in it."""

    def __init__(self, message: str, mark: str = "") -> None:
        super().__init__(message)
        self.mark = mark
        """The one that was looked for."""


class Mark:
    """The mark of a run on an output, as long as the context lasts."""

    def __init__(self, out: Path | None) -> None:
        """Of an output that has none, None; its name is ``""`` then."""
        self._folder = None if out is None else folder_of(out)
        self.name = ""

    def __enter__(self) -> "Mark":
        if self._folder is not None:
            self._folder.mkdir(exist_ok=True)
        self.renew()
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def renew(self) -> None:
        """Have another one: what was given out under the last is wanted no more."""
        if self._folder is None:
            return
        self._remove()
        self.name = secrets.token_hex(8) + _ENDING
        try:
            durable.publish(self._folder / self.name, b"")
        except OSError as error:
            raise durable.cannot_write(self._folder, error) from error

    def _remove(self) -> None:
        if self._folder is not None and self.name:
            with contextlib.suppress(OSError):
                (self._folder / self.name).unlink()


def require(out: Path, mark: str) -> None:
    """Refuse to go on for a run whose mark is not there; ``""`` is that of a run without one.

    Raises
    ------
    Unseen
        If its folder is not there either: the run has ended, or this machine does not see it.
    Unmarked
        If that is there: another run has begun, or the folder is another one of the same name.
    """
    if is_there(out, mark):
        return
    folder = folder_of(out)
    if not folder.exists():
        raise Unseen(f"{folder}: is not there")
    raise Unmarked(
        f"{folder}: the mark of this run ({mark}) is not in it: another run has begun on this "
        f"output, or this one has ended (or the disk is another one here). The finished work is "
        f"kept: when no other run is at work, run the same command again",
        mark,
    )


def is_there(out: Path, mark: str) -> bool:
    """Whether the mark of a run is where its units are."""
    return not mark or (folder_of(out) / mark).exists()


def sweep(out: Path) -> None:
    """Remove the marks of runs that were killed."""
    for path in folder_of(out).glob(f"*{_ENDING}"):
        path.unlink(missing_ok=True)
