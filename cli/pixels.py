"""Images of a source -> their bare pixels, the baseline that needs no backbone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import joblib
import numpy as np

from ..extract.decode import Undecodable, decode
from ..extract.reading import Unreadable
from ..extract.sources import scan
from ..features.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ..extract.sources import ImageReference

SIDE: Final = 16
"""Pixels a side: 768 numbers an image, as many as a small backbone gives."""


def pixels_of(source: str) -> Callable[[list[bytes]], NDArray[np.float32]]:
    """Look a source through, and return what reads the pixels of the images asked for.

    Raises
    ------
    SourceError
        If there is no such source; the returned function, if it lacks an image or one cannot be
        read.
    """
    images = {image.path: image for image in scan(source, labels="none")}

    def pixels(paths: list[bytes]) -> NDArray[np.float32]:
        missing = [path for path in paths if path not in images]
        if missing:
            raise SourceError(
                f"{source}: {len(missing)} images of the feature files are not there, such as "
                f"{os.fsdecode(missing[0])}; name the source that they were extracted from"
            )
        rows = joblib.Parallel(joblib.cpu_count(), prefer="threads")(
            joblib.delayed(_row)(images[path]) for path in paths
        )
        return np.stack(list(rows))

    return pixels


def _row(image: ImageReference) -> NDArray[np.float32]:
    try:
        data, _ = image.read()
        return decode(data, SIDE).pixels.astype(np.float32).ravel()
    except (Undecodable, Unreadable) as error:
        raise SourceError(f"{os.fsdecode(image.location)}: {error}") from error
