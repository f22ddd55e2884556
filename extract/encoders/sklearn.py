"""A fitted transformer of scikit-learn, or of a library that follows it, as an encoder."""

import math
import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ...features.errors import WrongUsage
from . import state
from .state import Unstable

LIBRARIES: Final = ("scikit-learn",)

_LONGEST: Final = 60
"""Characters of a parameter that is recorded as it is; of others the digest tells."""


def takes(encoder: Any) -> bool:
    """Whether an encoder transforms, and says by which parameters."""
    wanted = ("transform", "get_params")
    return not isinstance(encoder, type) and all(
        callable(getattr(encoder, one, None)) for one in wanted
    )


class Transformer:
    """Calls `transform` with a list of texts or paths, or with arrays as the rows of one."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        _require_fitted(encoder)

    @property
    def name(self) -> str:
        """Its class; of a pipeline those of its steps."""
        steps = getattr(self._encoder, "steps", None) or [("", self._encoder)]
        return " + ".join(type(step).__name__ for _, step in steps if not isinstance(step, str))

    @property
    def revision(self) -> str:
        """The version of the library that it is from; empty if there is none."""
        library = type(self._encoder).__module__.partition(".")[0]
        version = getattr(sys.modules.get(library), "__version__", "")
        shown = LIBRARIES[0] if library == "sklearn" else library
        return f"{shown} {version}" if version else ""

    def settings(self, *, stated: bool) -> dict[str, Any]:
        """Its parameters, for people, and the digest of all that it is made of.

        What has none may be left out where it is `stated` which one it is.
        """
        params = self._encoder.get_params(deep=False)
        said: dict[str, Any] = {
            "params": {name: _shown(value) for name, value in sorted(params.items())}
        }
        try:
            said["fitted"] = state.digest(self._encoder)
        except Unstable:
            if not stated:
                raise
        return said

    def __call__(self, items: Sequence[Any]) -> Any:
        """Vectors of items; of a sparse matrix the rows with all their zeros."""
        rows = np.stack(items) if isinstance(items[0], np.ndarray) else list(items)
        return self._encoder.transform(rows)


def _require_fitted(encoder: Any) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(encoder)
    except NotFittedError as error:
        raise WrongUsage(
            f"encoder: this {type(encoder).__name__} is not fitted yet; fit it before"
        ) from error
    except TypeError:  # of another library, which has its own way to say so
        return


def _shown(value: Any) -> Any:
    plain = value is None or isinstance(value, bool | int | float | str)
    if isinstance(value, float) and not math.isfinite(value):  # which JSON has no word for
        return str(value)
    if plain and len(repr(value)) <= _LONGEST:
        return value
    return getattr(value, "__name__", None) or type(value).__name__
