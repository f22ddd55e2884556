"""SHA-256 over arrays and datasets: name, dtype, shape and bytes, so that no two differ unseen."""

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from . import layout
from .journal.progress import step
from .provenance import Made
from .provenance.augmentation import NO_AUGMENTATION, Augmentation


class Rows(Protocol):
    """What can be hashed: a NumPy array or an h5py dataset."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length along each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Kind of the elements."""

    def __getitem__(self, rows: slice, /) -> Any: ...


class ArrayDigest:
    """Digest of a sequence of named arrays."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def text(self, text: str) -> None:
        """Add a text, with its length so that neighbours cannot run together."""
        data = text.encode("utf-8", "surrogateescape")
        self._hash.update(len(data).to_bytes(8, "little") + data)

    def array(self, name: str, rows: Rows) -> None:
        """Add an array or dataset of any shape, streamed in blocks along its first axis."""
        self.header(name, rows.dtype, rows.shape)
        for block in stepwise(rows, f"digest of {name}"):
            self.rows(block)

    def header(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Announce an array whose rows follow in calls of `rows`."""
        self.text(f"{name} {_describe(dtype)} {shape}")

    def rows(self, block: NDArray[Any]) -> None:
        """Add the next rows of the array announced last."""
        little = np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<"))
        self._hash.update(little.tobytes())

    def hexdigest(self) -> str:
        """The digest, hexadecimal."""
        return self._hash.hexdigest()


def _describe(dtype: np.dtype[Any]) -> str:
    # Not dtype.descr: h5py attaches metadata to what it reads, which shows there.
    if dtype.names is not None:
        return " ".join(f"{name}:{_describe(dtype[name])}" for name in dtype.names)
    if dtype.subdtype is not None:
        return f"{_describe(dtype.subdtype[0])}{dtype.subdtype[1]}"
    return dtype.newbyteorder("<").str


def blocks(rows: Rows, block_bytes: int = 8 << 20) -> Iterator[NDArray[Any]]:
    """Cut along the first axis into blocks of about `block_bytes`; a scalar is one block."""
    if not rows.shape:
        yield np.asarray(rows)
        return
    row_bytes = max(1, rows.dtype.itemsize * int(np.prod(rows.shape[1:], dtype=np.int64)))
    step = max(1, block_bytes // row_bytes)
    for start in range(0, rows.shape[0], step):
        yield rows[start : start + step]


def stepwise(rows: Rows, what: str) -> Iterator[NDArray[Any]]:
    """The same blocks, as a step whose progress is shown to whoever asked."""
    with step(what, rows.shape[0] if rows.shape else 1) as done:
        for block in blocks(rows):
            yield block
            done.add(len(block) if block.shape else 1)


def content_digest(
    file: h5py.File, provenance: Made, augmentation: Augmentation = NO_AUGMENTATION
) -> str:
    """SHA-256 over what made the rows, and the rows (hexadecimal): equal for equal runs.

    Times, the environment, the ledger and the canary are left out: they may differ between two
    such runs.
    """
    digest = ArrayDigest()
    digest.text(provenance.to_json())
    if augmentation.recipe:
        digest.text(augmentation.to_json())
    names = (name for _, name in layout.NAMED)
    texts = [layout.TEXTS] if layout.TEXTS in file else []
    for name in (*(one for one in layout.PER_ROW if one != layout.STATS), *texts, *names):
        digest.array(name, file[name])
    stats = file[layout.STATS][()]
    for field in ("size", "width", "height"):
        digest.array(field, stats[field])
    return digest.hexdigest()
