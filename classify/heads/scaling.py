"""Features -> the scaler that heads begin with."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from ..solver.rows import Matrix, passes
from ..solver.standard import scales

_ROWS_AT_ONCE: Final = 4096


class ShrunkenScaler(StandardScaler):  # type: ignore[misc]
    """Centre features, and divide them by standard deviations that are shrunk towards each other.

    For pipelines of scikit-learn on the vectors of `headstart.extract.ImageEmbedder`: of few images
    a feature's own deviation is mostly chance. It is ``sqrt((n * var_ + 100 * mean(var_)) / (n +
    100))`` for n rows, and otherwise a StandardScaler.

    Examples
    --------
    >>> import numpy as np
    >>> ShrunkenScaler().fit(np.array([[0.0, 1.0], [2.0, 1.0]])).scale_.round(3)
    array([0.714, 0.7  ])
    """

    def fit(self, X: Any, y: object = None, sample_weight: Any = None) -> "ShrunkenScaler":  # noqa: N803
        """Learn means and scales of (N, D) features."""
        super().fit(X, y, sample_weight)
        if self.with_std:
            self.scale_ = scales(self.var_, int(np.max(self.n_samples_seen_)))
        return self


def shrunken_scaler(features: Matrix, shares: NDArray[np.float64] | None = None) -> StandardScaler:
    """A StandardScaler, fitted to (N, D) features, with the ``scale_`` of a `ShrunkenScaler`.

    Whatever knows a StandardScaler, exports included, knows this one. Rows may count for less than
    one each, by (N,) `shares`.
    """
    scaler = StandardScaler()
    # In parts: of all rows at once scikit-learn makes three copies on its way.
    start = 0
    for block in passes(features, "scales", _ROWS_AT_ONCE):
        rows = slice(start, start + len(block))
        scaler.partial_fit(block, sample_weight=None if shares is None else shares[rows])
        start = rows.stop
    scaler.n_samples_seen_ = np.int64(np.round(scaler.n_samples_seen_))
    scaler.scale_ = scales(np.asarray(scaler.var_), scaler.n_samples_seen_)
    return scaler
