"""Vectors that are on the disk already, in the sealed file and in units, found by their digests.

`Known` looks up images in dictionaries: a kilobyte of memory each. Of a million vectors that are
only copied that would be most of the memory; here it is a hundred bytes.
"""

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import ProvenanceMismatch
from ...opening import opened
from ...origin import Origin
from ...records import Key
from ...store import FeatureStore
from ...store.picked import picked
from .. import units
from ..known import together
from ..outputs import Output
from ..progress import step
from .rows import Rows
from .vectors import Vectors, stored

_UNIT_BYTES: Final = 16 << 20
"""Of vectors in a unit. They are only copied: what a killed run has to copy again takes no time."""

_WHOLE: Final = np.dtype(f"S{layout.DIGEST_BYTES}")
"""A digest as one value, which can be sorted."""
_SEALED: Final = -1


class Spool:
    """The vectors of the feature file `out` and of its units, all of one origin.

    With `fresh` the sealed file does not count, nor do units that were made otherwise; else they
    are refused.

    Raises
    ------
    ProvenanceMismatch
        If the file, or a unit, was made otherwise than by `origin`.
    """

    def __init__(self, out: Path, origin: Origin, *, fresh: bool = False) -> None:
        self.out, self.origin = out, origin
        self.store = FeatureStore(out) if out.exists() and not fresh else None
        if self.store is not None:
            self.store.origin.called(str(out), origin.remedy).require(origin)
        self.turn = 1
        self.paths: list[Path] = []
        """Of the units."""
        self.others: list[Path] = []
        """Of units that do not count."""
        parts = [] if self.store is None else [whole(self.store.digests)]
        numbers = [_SEALED] * len(parts)
        folder = units.folder_of(out)
        for unit in units.one_by_one(folder):
            self.turn = max(self.turn, unit.turn + 1)
            try:
                unit.origin.called(f"unfinished work in {folder}", origin.remedy).require(origin)
            except ProvenanceMismatch:
                if not fresh:
                    raise
                self.others.append(unit.path)
                continue
            numbers.append(len(self.paths))
            self.paths.append(unit.path)
            parts.append(np.frombuffer(b"".join(digest for digest, _ in unit.keys), _WHOLE))
        self._index(parts, numbers)

    def _index(self, parts: list[NDArray[np.bytes_]], numbers: list[int]) -> None:
        sizes = [len(part) for part in parts]
        every = np.concatenate([np.empty(0, _WHOLE), *parts])
        order = np.argsort(every, kind="stable")
        self._digests = every[order]
        self._numbers = np.repeat(np.array(numbers, np.int32), sizes)[order]
        rows = [np.arange(size, dtype=np.int32) for size in sizes]
        self._rows = np.concatenate([np.empty(0, np.int32), *rows])[order]

    def has(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(N, 32) digests -> (N,): of which of them the vector is there."""
        return self._places(digests) >= 0

    def _places(self, digests: NDArray[np.uint8]) -> NDArray[np.intp]:
        """Where each is among all, -1 for those that are not."""
        wanted = whole(digests)
        places = np.searchsorted(self._digests, wanted)
        there = places < len(self._digests)
        there[there] = self._digests[places[there]] == wanted[there]
        return np.where(there, places, -1)

    def in_blocks(
        self,
        digests: NDArray[np.uint8],
        views: NDArray[np.int16],  # noqa: ARG002 - all are 0
    ) -> Iterator[tuple[slice, NDArray[np.floating]]]:
        """The vectors of N digests, block by block; a KeyError if one is not there."""
        places = self._places(digests)
        if len(places) and places.min() < 0:
            raise KeyError("a vector is not there")
        numbers, rows = self._numbers[places], self._rows[places]
        made = self.origin.provenance
        for block in together(numbers, made.dimension * np.dtype(made.dtype).itemsize):
            found = np.empty((block.stop - block.start, made.dimension), made.dtype)
            for number in np.unique(numbers[block]).tolist():
                here = np.flatnonzero(numbers[block] == number)
                own, back = np.unique(rows[block][here], return_inverse=True)
                found[here] = self._read(number, own.astype(np.intp))[back]
            yield block, found

    def _read(self, number: int, rows: NDArray[np.intp]) -> NDArray[np.floating]:
        if number == _SEALED and self.store is not None:
            return self.store.read_features(rows)
        with opened(self.paths[number], layout.UNIT_FORMAT) as file:
            return picked(file[layout.FEATURES], rows)


def spooled(spool: Spool, rows: Rows, found: Vectors) -> tuple[NDArray[np.uint8], int]:
    """(N, 32) digests of the vectors, which are on the disk then; of how many they are new.

    What is there already is not written.
    """
    made = spool.origin.provenance
    place = np.empty(len(rows), np.intp)
    place[rows.order] = np.arange(len(rows))
    digests = np.zeros((len(rows), layout.DIGEST_BYTES), np.uint8)
    pending: dict[Key, NDArray[np.floating]] = {}
    most = max(1, _UNIT_BYTES // (made.dimension * np.dtype(made.dtype).itemsize))
    new = 0
    with step("vectors", len(rows)) as done:
        for own, block in found.blocks(rows.order):
            at = place[own]
            vectors = stored(block, made.dtype, functools.partial(_called, rows, at))
            digests[at] = _digests(vectors)
            lacking = np.flatnonzero(~spool.has(digests[at]))
            new += len(lacking)
            # A copy: what is pending keeps no others in memory.
            keys = (digest.tobytes() for digest in digests[at[lacking]])
            pending |= zip(((one, 0) for one in keys), vectors[lacking], strict=True)
            while len(pending) >= most:
                pending = _published(spool, pending, most)
            done.add(len(own))
    while pending:
        pending = _published(spool, pending, most)
    return digests, new


def _called(rows: Rows, at: NDArray[np.intp], k: int) -> str:
    """The id of the k-th vector of a block, whose rows are `at`."""
    return rows.name(int(at[k]))


def _published(
    spool: Spool, pending: dict[Key, NDArray[np.floating]], most: int
) -> dict[Key, NDArray[np.floating]]:
    """Publish a unit of the first so many vectors; the others."""
    every = list(pending.items())
    path = units.publish(
        units.folder_of(spool.out), spool.origin, [], dict(every[:most]), spool.turn
    )
    Output.at(spool.out).push(path)
    return {key: vector.copy() for key, vector in every[most:]}


def _digests(vectors: NDArray[np.floating]) -> NDArray[np.uint8]:
    """(n, D) vectors -> (n, 32): the SHA-256 of each."""
    size, data = vectors.strides[0], vectors.data.cast("B")
    every = b"".join(
        hashlib.sha256(data[start : start + size]).digest() for start in range(0, len(data), size)
    )
    return np.frombuffer(every, np.uint8).reshape(-1, layout.DIGEST_BYTES)


def whole(digests: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """(N, 32) digests -> (N,) values that can be compared."""
    return np.ascontiguousarray(digests).reshape(-1).view(_WHOLE)
