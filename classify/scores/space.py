"""Vectors of images -> fewer dimensions, in which their cosines tell near-copies."""

import dataclasses
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from ...features.journal.progress import step
from ..solver.rows import Matrix, Stored, passes

COMPONENTS: Final = 256
"""With 128, 5.5% of 600 different photographs are taken for copies instead of 3%; with 512 1% are,
but more plots and digits, at twice the cost."""
_SAMPLE: Final = 4096
_POWER: Final = 2
"""Of the search for components: 0.08 s where scikit-learn's default of 7 takes 0.45 s."""
_COLUMNS: Final = 32
"""Vectors of fewer numbers than any backbone makes: in them, what has one cause is as near to each
other as copies are."""
_CELLS: Final = 1 << 22  # of a block of cosines: 16 MB
_NONE: Final = 1e-5  # of the largest singular value: what rounding leaves of a constant


@dataclasses.dataclass(frozen=True)
class Space:
    """Principal components, each divided by the square root of its singular value.

    Halfway between them as they are and whitened (Jegou and Chum, ECCV 2012, whiten them to find
    copies): as they are, 41 of 100 different plots are taken for copies where 17 are; a little
    nearer to whitened, with eigenvalues to the power of -0.35 instead of -0.25, 25% of the copies
    of 40 photographs in 6 versions each are found, where 94% are (at 150 pixels).
    """

    mean: NDArray[np.float32]
    """(D,) of the vectors that it was made from."""
    axes: NDArray[np.floating]
    """(D, k); one of zeros where all vectors are the same, or of too few numbers to tell."""

    @classmethod
    def of(cls, features: Matrix, components: int = COMPONENTS) -> "Space":
        """The space of (N, D) vectors, from 4,096 of them at most."""
        if isinstance(features, Stored):
            total = np.zeros(features.shape[1])
            for block in passes(features, "mean"):
                total += block.sum(axis=0, dtype=np.float64)
            mean = (total / max(1, len(features))).astype(np.float32)
        else:
            mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        sample = np.array(features[drawn(len(features), _SAMPLE)], np.float32)  # a copy
        most = min(components, len(sample) - 1, sample.shape[1])
        if most < 1 or sample.shape[1] < _COLUMNS or not np.ptp(sample, axis=0).any():
            return cls(mean, np.zeros((len(mean), 1), np.float32))
        pca = principal_components(sample, most, seed=0, copy=False)
        lengths = pca.singular_values_ / pca.singular_values_[0]
        told = lengths > _NONE
        if np.count_nonzero(told) < 2:  # along a single axis every vector has the same length
            return cls(mean, np.zeros((len(mean), 1), np.float32))
        axes = pca.components_[told].T / np.sqrt(lengths[told])
        return cls(mean, np.ascontiguousarray(axes, np.float32))

    def first(self, components: int) -> "Space":
        """The same with no more than so many components."""
        return Space(self.mean, self.axes[:, :components])

    def vectors(self, features: Matrix) -> NDArray[np.float32]:
        """(N, D) -> (N, k) of length one; what equals the mean stays zero."""
        axes = self.axes.astype(np.float32)
        return np.concatenate(
            [np.empty((0, axes.shape[1]), np.float32), *self._found(features, axes)]
        )

    def halves(self, features: Matrix) -> NDArray[np.float16]:
        """The same in half the memory; cosines are off by a thousandth at most."""
        axes = self.axes.astype(np.float32)
        halves, start = np.empty((len(features), axes.shape[1]), np.float16), 0
        for block in self._found(features, axes):
            halves[start : start + len(block)] = block
            start += len(block)
        return halves

    def _found(self, features: Matrix, axes: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        for block in passes(features, "what tells near-copies"):
            yield to_length_one(((block - self.mean) @ axes).astype(np.float32, copy=False))


def principal_components(
    vectors: NDArray[np.float32], count: int, seed: int, *, copy: bool = True
) -> PCA:
    """The first of (N, D) vectors, by random projections; without a `copy` they are overwritten.

    By one thread: its products are NumPy's and its factors SciPy's, each with a BLAS of its own,
    whose idle threads keep the cores from the other's. For 400 vectors that takes 70 ms instead of
    10, and in two processes at once seconds.
    """
    with threadpool_limits(1, "blas"):
        pca = PCA(
            count, copy=copy, svd_solver="randomized", iterated_power=_POWER, random_state=seed
        )
        return pca.fit(vectors)


def drawn(number: int, most: int) -> NDArray[np.intp]:
    """At most so many of the rows, always the same ones, in order."""
    if number <= most:
        return np.arange(number)
    return np.sort(np.random.default_rng(0).choice(number, most, replace=False))


def to_length_one(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide each row by its length, in place; rows of zeros stay as they are."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.divide(vectors, lengths, out=vectors, where=lengths > 0)
    return vectors


def parts(rows: int, columns: int, what: str = "near-copies") -> Iterator[slice]:
    """Slices of rows whose cells fit into a block, as a step that is called `what`."""
    size = max(1, _CELLS // max(1, columns))
    with step(what, rows) as done:
        for start in range(0, rows, size):
            part = slice(start, min(start + size, rows))
            yield part
            done.add(part.stop - part.start)
