"""Vectors as people have them -> blocks of finite vectors of one length, in one dtype."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import SourceError, WrongUsage, first_line
from ...provenance.recorded import MOST_NUMBERS
from ...rules import LARGEST, unusable
from ...store.picked import picked

_BLOCK_BYTES: Final = 4 << 20
"""Of vectors that are worked on at once."""
_NUMBERS: Final = "biuf"
"""Kinds of dtypes that are numbers."""


class Vectors(Protocol):
    """N vectors, which come in blocks."""

    dimension: int

    def blocks(
        self, order: NDArray[np.intp]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.generic]]]:
        """Which of the vectors these are, by number, and they, (n, D); `order` is welcome."""


def of(vectors: Any, number: int) -> Vectors:
    """Vectors of any kind that `write` takes, of which there should be so many.

    Raises
    ------
    WrongUsage
        If they are of another number or shape, or no numbers.
    """
    if hasattr(vectors, "__next__") or not (
        hasattr(vectors, "shape") or isinstance(vectors, list | tuple)
    ):
        if not isinstance(vectors, Iterable):
            raise WrongUsage(
                f"vectors: a {type(vectors).__name__} is none; give an array of (N, D), a data set "
                f"of HDF5, or an iterator of such blocks"
            )
        return _Stream(iter(vectors), number)
    if isinstance(vectors, list | tuple) or not isinstance(
        getattr(vectors, "dtype", None), np.dtype
    ):
        vectors = _whole(vectors)
    return _Array(vectors, number)


def as_array(vectors: Any) -> NDArray[Any]:
    """Lists, data frames, sparse matrices, and tensors of other libraries, as NumPy has them.

    A number that is masked is none, and not what lies beneath.
    """
    if hasattr(vectors, "toarray"):
        vectors = vectors.toarray()
    elif hasattr(vectors, "detach"):  # of PyTorch: on a device, or with a gradient
        vectors = vectors.detach().cpu().float()
    if isinstance(vectors, np.ma.MaskedArray) and np.ma.is_masked(vectors):
        vectors = np.ma.filled(vectors.astype(np.float64), np.nan)
    array = np.asarray(vectors)
    if array.dtype.kind == "V" and array.dtype.type is not np.void:
        array = array.astype(np.float32)  # bfloat16, which NumPy itself does not know
    return array


def _whole(vectors: Any) -> NDArray[Any]:
    try:
        return as_array(vectors)
    except ValueError as error:
        raise WrongUsage(f"vectors: they are not all of one length ({error})") from error
    except (TypeError, RuntimeError) as error:
        raise WrongUsage(
            f"vectors: a {type(vectors).__name__} is no array of numbers ({error}); give one of "
            f"NumPy, of (N, D)"
        ) from error


class _Array:
    """Vectors that can be asked for in any order: an array, mapped or in a file, or sparse."""

    def __init__(self, vectors: Any, number: int) -> None:
        if hasattr(vectors, "tocsr"):
            vectors = vectors.tocsr()
        self._vectors = vectors
        _require_numbers(vectors.dtype)
        if len(vectors.shape) != 2:
            raise WrongUsage(f"vectors: (N, D) is expected, received the shape {vectors.shape}")
        self._number, self.dimension = map(int, vectors.shape)
        _require_dimension(self.dimension)
        if self._number != number:
            raise WrongUsage(
                f"vectors: there are {self._number:,}, and {number:,} ids; give one id a vector"
            )

    def blocks(
        self, order: NDArray[np.intp]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.generic]]]:
        """In the order that is asked for."""
        step = max(1, _BLOCK_BYTES // (self.dimension * np.dtype(np.float32).itemsize))
        for start in range(0, self._number, step):
            rows = order[start : start + step]
            yield rows, self._taken(rows)

    def _taken(self, rows: NDArray[np.intp]) -> NDArray[np.generic]:
        own, back = np.unique(rows, return_inverse=True)
        found: Any
        if isinstance(self._vectors, h5py.Dataset):
            try:
                found = picked(self._vectors, own)
            except (OSError, RuntimeError) as error:
                raise SourceError(
                    f"{self._vectors.file.filename}: vectors {int(own[0]):,} to {int(own[-1]):,} "
                    f"cannot be read: {first_line(error)}; put a sound copy in its place"
                ) from error
        elif int(own[-1]) - int(own[0]) < len(own):
            found = self._vectors[int(own[0]) : int(own[-1]) + 1]
        else:
            found = self._vectors[own]
        taken = as_array(found)[back]  # a copy: the file may be let go of
        self._let_go()
        return taken

    def _let_go(self) -> None:
        """Have a mapped file take no memory: what was read of it counts as long as it is mapped."""
        mapped = getattr(self._vectors, "_mmap", None)
        # One that is written to, or has changes of its own, may not be forgotten.
        kept = getattr(self._vectors, "mode", "") != "r"
        if mapped is not None and not kept and hasattr(mapped, "madvise"):
            from mmap import MADV_DONTNEED  # which Windows lacks

            mapped.madvise(MADV_DONTNEED)


class _Stream:
    """Vectors that come block by block, in the order of their ids."""

    def __init__(self, blocks: Iterator[Any], number: int) -> None:
        first = next(blocks, None)
        if first is None:
            raise WrongUsage(f"vectors: there are none, and {number:,} ids")
        self.dimension = self._checked(first).shape[1]
        _require_dimension(self.dimension)
        self._blocks, self._number = itertools.chain([first], blocks), number

    def blocks(
        self,
        order: NDArray[np.intp],  # noqa: ARG002 - it is theirs
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.generic]]]:
        """In their own order."""
        start = 0
        for one in self._blocks:
            block = self._checked(one)
            if block.shape[1] != self.dimension:
                raise WrongUsage(
                    f"vectors: from number {start:,} on they have {block.shape[1]:,} numbers, "
                    f"those before {self.dimension:,}; all are of one length"
                )
            if start + len(block) > self._number:
                raise WrongUsage(
                    f"vectors: there are more than {self._number:,}, the number of ids; give one "
                    f"id a vector"
                )
            if len(block):
                yield np.arange(start, start + len(block)), block
            start += len(block)
        if start != self._number:
            raise WrongUsage(
                f"vectors: there are {start:,}, and {self._number:,} ids; give one id a vector"
            )

    @staticmethod
    def _checked(block: Any) -> NDArray[np.generic]:
        array = _whole(block)
        _require_numbers(array.dtype)
        if array.ndim != 2:
            raise WrongUsage(
                f"vectors: an iterator gives blocks of (n, D), received one of the shape "
                f"{array.shape}"
            )
        return np.asarray(array)


def stored(
    block: NDArray[np.generic], dtype: str, name: Callable[[int], str]
) -> NDArray[np.floating]:
    """A block as it is kept; `name` says what the k-th vector of it is called.

    Raises
    ------
    WrongUsage
        If one of them is not finite.
    """
    with np.errstate(over="ignore"):  # it is said below
        found: NDArray[np.floating] = np.ascontiguousarray(block, np.dtype(dtype).newbyteorder("<"))
    bad = unusable(found)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        finite = bool(np.isfinite(block[first].astype(np.float64)).all())
        what = "has NaN or infinity"
        if finite:
            most = min(LARGEST, float(np.finfo(dtype).max))
            what = f"has numbers that are too large for {dtype} (here at most {most:.4g})"
        raise WrongUsage(
            f"vectors: the one of {name(first)} {what}, with which nothing can be computed; leave "
            f"it out, or make it again"
        )
    return found


def _require_numbers(dtype: Any) -> None:
    kind = getattr(dtype, "kind", None)
    if kind is None or kind not in _NUMBERS:
        raise WrongUsage(f"vectors: numbers are expected, received the type {dtype}")


def _require_dimension(dimension: int) -> None:
    if not 0 < dimension <= MOST_NUMBERS:
        raise WrongUsage(
            f"vectors: of {dimension:,} numbers each; 1 to {MOST_NUMBERS:,} are possible"
        )
