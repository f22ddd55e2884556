"""What is said of examples, a value each -> the columns of a feature file, in its order."""

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import WrongUsage
from ..seal import coded, fixed, shortened

_LONGEST: Final = 4096
"""Bytes of an id: each row has room for the longest."""
_MISSING: Final = ("NAType", "NaTType")
"""What pandas has for a cell without a value, apart from NaN: neither equals anything."""
_SPLITS: Final = {name: number for number, name in enumerate(layout.SPLIT_NAMES)} | {"": 0}


@dataclasses.dataclass(frozen=True)
class Rows:
    """N examples in the order of their ids."""

    order: NDArray[np.intp]
    """(N,): which of those given each of them is."""
    columns: Mapping[str, NDArray[Any]]
    """By the name of the dataset: all but vectors and their digests."""

    @classmethod
    def of(
        cls,
        ids: Iterable[Any],
        labels: Iterable[Any] | None,
        splits: Iterable[Any] | None,
        groups: Iterable[Any] | None,
        texts: Iterable[Any] | None,
    ) -> "Rows":
        """Check and sort what was given.

        Raises
        ------
        WrongUsage
            If a column has another length than the ids; if an id occurs twice, or is none; if a
            value is none that the column can have.
        """
        named = _listed("ids", ids)
        number = len(named)
        paths = _ids(named)
        order = np.argsort(paths, kind="stable")
        paths = paths[order]
        _require_once(paths, order)
        columns: dict[str, NDArray[Any]] = {layout.PATHS: paths}
        for name, (codes, names), values in (
            ("labels", layout.NAMED[0], labels),
            ("groups", layout.NAMED[1], groups),
        ):
            columns[codes], columns[names] = coded(_names(name, values, number))
            columns[codes] = columns[codes][order]
        columns[layout.SPLITS] = _splits(splits, number)[order]
        columns[layout.VIEWS] = np.zeros(number, np.int16)
        columns[layout.STATS] = np.zeros(number, layout.STATS_DTYPE)
        columns[layout.SKIPPED] = np.empty(0, layout.files_dtype(0, 0))
        said = _texts(texts, number)
        if any(said):
            columns[layout.TEXTS] = fixed([shortened(text) for text in said])[order]
        return cls(order, columns)

    def __len__(self) -> int:
        return len(self.order)

    def name(self, place: int) -> str:
        """The id of a row as messages have it."""
        return repr(os.fsdecode(bytes(self.columns[layout.PATHS][place])))


def _listed(name: str, values: Iterable[Any]) -> list[Any]:
    if isinstance(values, str | bytes):
        raise WrongUsage(f"{name}: one value an example is expected, received {values!r:.80}")
    if hasattr(values, "tolist"):  # of NumPy, or pandas
        values = values.tolist()
    try:
        return values if isinstance(values, list) else list(values)
    except TypeError as error:
        raise WrongUsage(f"{name}: one value an example is expected ({error})") from error


def _column(name: str, values: Iterable[Any] | None, number: int) -> Sequence[Any]:
    if values is None:
        return [None] * number
    found = _listed(name, values)
    if len(found) != number:
        raise WrongUsage(f"{name}: there are {len(found):,}, and {number:,} ids; give one each")
    return found


def _ids(values: Sequence[Any]) -> NDArray[np.bytes_]:
    if not values:
        raise WrongUsage("ids: there are none, and a feature file has at least one example")
    found = []
    for row, value in enumerate(values):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole and not isinstance(value, str | bytes | os.PathLike):
            raise WrongUsage(
                f"ids: number {row:,} is {value!r:.80}; an id is a text or a whole number"
            )
        data = str(value).encode() if whole else _encoded(value)
        if not data or b"\0" in data or len(data) > _LONGEST:
            raise WrongUsage(
                f"ids: number {row:,} is {value!r:.80}; an id has 1 to {_LONGEST:,} bytes, and no "
                f"NUL"
            )
        found.append(data)
    return fixed(found)


def _encoded(value: str | bytes | os.PathLike[str]) -> bytes:
    try:
        return os.fsencode(value)
    except UnicodeEncodeError as error:
        raise WrongUsage(f"ids: {value!a:.80} is no text (half a character)") from error


def _require_once(paths: NDArray[np.bytes_], order: NDArray[np.intp]) -> None:
    """Refuse ids, sorted, of which one is there twice."""
    twice = np.flatnonzero(paths[1:] == paths[:-1])
    if len(twice):
        first = int(twice[0])
        more = f", and so are {len(twice) - 1:,} others" if len(twice) > 1 else ""
        raise WrongUsage(
            f"ids: {os.fsdecode(bytes(paths[first]))!r} is given twice, as number "
            f"{int(order[first]):,} and {int(order[first + 1]):,}{more}; an id is of one example"
        )


def _names(name: str, values: Iterable[Any] | None, number: int) -> Sequence[str | None]:
    """Names of labels or groups; None where there is none."""
    known: dict[Any, str | None] = {}
    found = []
    for row, value in enumerate(_column(name, values, number)):
        try:
            if value not in known:
                known[value] = as_name(value)
        except (TypeError, ValueError) as error:
            raise WrongUsage(
                f"{name}: number {row:,} is {value!r:.80}; a text is expected, a whole number, or "
                f"None"
            ) from error
        found.append(known[value])
    return found


def is_missing(value: Any) -> bool:
    """Whether a value says that there is none: None, NaN, and what pandas has for these."""
    if value is None or type(value).__name__ in _MISSING:
        return True
    return isinstance(value, float | np.floating) and math.isnan(value)


def as_name(value: Any) -> str | None:
    """A label or group as a text; None where there is none.

    Raises
    ------
    TypeError, ValueError
        If it is neither a text nor a whole number; if it has a NUL, or half a character.
    """
    if is_missing(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer():  # where one of whole numbers is missing
        value = int(value)
    if not isinstance(value, str | int):
        raise TypeError
    name = str(value)
    name.encode("utf-8", "surrogateescape")  # as labels of folders with odd bytes are
    if "\0" in name:
        raise ValueError
    return name or None


def _texts(values: Iterable[Any] | None, number: int) -> list[str]:
    found = []
    for row, value in enumerate(_column("texts", values, number)):
        if isinstance(value, bytes):
            raise WrongUsage(f"texts: number {row:,} is {value!r:.80}; decode it to a text")
        found.append("" if is_missing(value) else str(value))
    return found


def _splits(values: Iterable[Any] | None, number: int) -> NDArray[np.int8]:
    given = _column("splits", values, number)
    found = np.zeros(number, np.int8)
    for row, value in enumerate(given):
        word = "" if is_missing(value) else value
        if not isinstance(word, str) or word not in _SPLITS:
            raise WrongUsage(
                f"splits: number {row:,} is {value!r:.80}; use one of "
                f"{', '.join(layout.SPLIT_NAMES)}"
            )
        found[row] = _SPLITS[word]
    return found
