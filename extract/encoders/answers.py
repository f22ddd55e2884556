"""A batch of items -> a vector of each, or why there is none: what an encoder may get wrong."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...features import rules
from ...features.errors import BackboneError, count, first_line, printable
from ...features.journal.writing.vectors import as_array
from ...features.records import AGAIN

_log = logging.getLogger("headstart")

_IN_A_ROW: Final = 32
"""After so many items that an encoder fails on, without one between that it does not, it is asked
whether it still embeds what it did embed."""

_LONGEST_REASON: Final = 300
"""Characters: every row of the ledger has room for the longest."""


class Failure(str):
    """Why an item has no vector."""

    __slots__ = ()


class NoVectors(BackboneError):
    """An answer that is no vectors, whatever the items were."""


class Asking:
    """Asks an encoder for vectors, and finds out which items it fails on."""

    def __init__(
        self,
        call: Callable[[Sequence[Any]], Any],
        dtype: str,
        batch: int,
        dimension: int | None = None,
    ) -> None:
        self._call = call
        self._dtype = np.dtype(dtype)
        self.batch = batch
        """Items a call; fewer after one that was too large for the memory."""
        self.dimension = dimension
        """Numbers of a vector; None before the first."""
        self._in_a_row = 0
        self._last: Exception | None = None
        self._embedded: list[Any] = []

    def ask(self, values: Sequence[Any]) -> list[NDArray[np.floating] | Failure]:
        """The vector of each item, in their order, in the dtype in which they are stored.

        If the encoder raises, the batch is halved until the items that it fails on are found.

        Raises
        ------
        BackboneError
            If what it gives is no vectors; if it fails on whatever it is given.
        """
        try:
            return self._vectors(values)
        except NoVectors:
            raise
        except Exception as error:  # noqa: BLE001 - an encoder raises what it likes
            if len(values) == 1:
                return [self._failed(error)]
            why = first_line(error)
        half = len(values) // 2
        answers = self.ask(values[:half]) + self.ask(values[half:])
        if half < self.batch and not any(isinstance(one, Failure) for one in answers):
            self.batch = half
            _log.warning(
                "the encoder failed on %d items at once (%s), and on none of them by %d; going on "
                "with %d (batch_size=%d)",
                *(len(values), why, half, half, half),
            )
        return answers

    def _vectors(self, values: Sequence[Any]) -> list[NDArray[np.floating] | Failure]:
        vectors = self._checked(self._call(values), len(values))
        self._in_a_row = 0
        self._embedded[:] = values[:1]
        self.dimension = vectors.shape[1]
        unusable = rules.unusable(vectors)
        return [
            Failure(f"its vector has numbers that are not finite as {self._dtype}")
            if bad
            else vector
            for vector, bad in zip(vectors, unusable.tolist(), strict=True)
        ]

    def _checked(self, answer: Any, items: int) -> NDArray[np.floating]:
        try:
            array = as_array(answer)
        except (TypeError, ValueError, RuntimeError) as error:
            raise NoVectors(
                f"encoder: its answer is no array of numbers ({first_line(error)}); it gets a list "
                f"of items, and a vector of each is expected, all of one length"
            ) from error
        length = f"D = {self.dimension:,}" if self.dimension else "D"
        wanted = (items, self.dimension or max(1, *array.shape[1:2], 1))
        if array.dtype.kind not in "fiub" or array.shape != wanted:
            raise NoVectors(
                f"encoder: of {count(items, 'item')} it gave an array of {array.dtype} and shape "
                f"{array.shape}; numbers of shape ({items:,}, {length}) are expected"
            )
        with np.errstate(over="ignore"):  # infinite then, which is found
            return array.astype(self._dtype)

    @property
    def proven(self) -> bool:
        """Whether the last item was embedded, or there is one to see by what failures mean."""
        return not self._in_a_row or bool(self._embedded)

    def require_alive(self) -> None:
        """Refuse to go on with an encoder that fails on what it has embedded before, too.

        Raises
        ------
        BackboneError
            If it does, or has not embedded anything yet; not if the last item was embedded.
        """
        if not self._in_a_row:
            return
        failed, last, before = self._in_a_row, self._last, list(self._embedded)
        try:
            if before:
                self._vectors(before)
                return
        except NoVectors:
            raise
        except Exception as error:  # noqa: BLE001 - an encoder raises what it likes
            last = error
        also = ", and then on one that it had embedded" if before else ""
        raise BackboneError(
            f"encoder: it failed on {count(failed, 'item')} in a row{also}; the last time with "
            f"{_said(last)}; mend it, then make the same call again: what is finished is kept"
        ) from last

    def _failed(self, error: Exception) -> Failure:
        self._in_a_row += 1
        self._last = error
        if self._in_a_row >= _IN_A_ROW:
            self.require_alive()
        # What the item is will be the same tomorrow; whether a service answers may not.
        again = f"; {AGAIN}" if isinstance(error, OSError | MemoryError) else ""
        return Failure(f"the encoder fails on it: {_said(error)}{again}")


def _said(error: Exception | None) -> str:
    return printable(f"{type(error).__name__}: {first_line(error or '')}")[:_LONGEST_REASON]
