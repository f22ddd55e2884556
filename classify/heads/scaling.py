"""Features -> the scaler that every head begins with."""

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from ..solver.path import scales


def shrunken_scaler(features: NDArray[np.floating]) -> StandardScaler:
    """A fitted StandardScaler of (N, D) features, whose ``scale_`` is that of `solver.path.scales`.

    Whatever knows a StandardScaler, exports included, knows this one.
    """
    scaler = StandardScaler().fit(features)
    scaler.scale_ = scales(np.asarray(scaler.var_), len(features))
    return scaler
