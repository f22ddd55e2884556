"""Images of a source -> their bare pixels, a baseline that needs no backbone."""

import os
from collections.abc import Callable
from typing import Final

import joblib
import numpy as np
from numpy.typing import NDArray

from ...features.errors import SourceError
from ...features.journal.progress import step
from ..images.decode import Undecodable, decode
from ..sources import scan
from ..sources.image import ImageReference, Unreadable
from ..work.threads import Threads

SIDE: Final = 16
"""Pixels a side: 768 numbers per image, as many as a small backbone gives."""


def pixels_of(source: str) -> Callable[[list[bytes]], NDArray[np.float32]]:
    """List a source, and return a function from n paths in it to their pixels, (n, 768) float32."""
    images = {image.path: image for image in scan(source, labels="none")}

    def pixels(paths: list[bytes]) -> NDArray[np.float32]:
        missing = [path for path in paths if path not in images]
        if missing:
            raise SourceError(
                f"{source}: {len(missing)} images of the feature files are not in it, for example "
                f"{os.fsdecode(missing[0])}; name the source that they were extracted from"
            )
        rows = []
        with (
            Threads(joblib.cpu_count(), "decode") as threads,
            step("pixels", len(paths), "image") as done,
        ):
            for row in threads.map(_row, [images[path] for path in paths]):
                rows.append(row)
                done.add(1)
        return np.stack(rows)

    return pixels


def _row(image: ImageReference) -> NDArray[np.float32]:
    try:
        data, _ = image.read()
        return decode(data, SIDE).pixels.astype(np.float32).ravel()
    except (Undecodable, Unreadable) as error:
        raise SourceError(f"{os.fsdecode(image.path)}: {error}") from error
