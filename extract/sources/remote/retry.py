"""How often it is tried to read something of a server, and what is said when it is given up."""

import time
from typing import Final

from ....features.durable.remote.failures import TRIES, passing, pause, status_of, told
from ....features.records import AGAIN
from ..image import Unreadable

_LONGEST: Final = 20.0
"""Seconds after which it is not tried a third time: where tries take so long, time limits end them
(one connection may be dead, as it was kept for long; the next is not)."""


class Gone(Unreadable):
    """It could not be read now, however often it was tried."""


class Tries:
    """How often something has been tried, and whether it is tried once more.

    ``while True: try: return ...; except Exception as error: sleep(tries.wait(error))``
    """

    def __init__(self, most: int = TRIES) -> None:
        self._most = most
        self._failed = 0
        self._started = time.monotonic()

    @property
    def failed(self) -> int:
        """How many tries have failed."""
        return self._failed

    def give_up(self) -> None:
        """Try no more after the next failure."""
        self._most = 1

    def wait(self, error: BaseException) -> float:
        """Seconds to wait before the next try.

        Raises
        ------
        Unreadable
            If there is none: the error will not pass, or has not.
        """
        self._failed += 1
        if isinstance(error, Unreadable | MemoryError):
            raise error
        if status_of(error) == 416:  # it has no such bytes any more
            raise Unreadable(f"changed since it was listed; {AGAIN}") from error
        if not passing(error):
            raise Unreadable(f"cannot be read: {told(error)}") from error
        late = self._failed > 1 and time.monotonic() - self._started > _LONGEST
        if self._failed >= self._most or late:
            tries = "1 try" if self._failed == 1 else f"{self._failed} tries"
            raise Gone(f"cannot be read now: {told(error)}, after {tries}; {AGAIN}") from error
        return pause(self._failed)
