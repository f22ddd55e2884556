"""X, as scikit-learn calls its input -> references to the images in it."""

import dataclasses
import hashlib
import io
import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...features.records import FileStat
from ..images.limits import MAX_PIXELS
from .image import ImageReference, absolute

_WANTED: Final = (
    "give a list or column of paths, or images as uint8 arrays: (n, height, width, 3), or a list "
    "of (height, width, 3) or (height, width)"
)
_TEXTS: Final = "USTO"  # kinds of dtype that can hold paths: str, bytes, NumPy's text, objects


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ArrayReference(ImageReference):
    """An image that is an array and not a file, though it can be read like one.

    Its path is a digest of the pixels, so that equal arrays are one image.
    """

    pixels: NDArray[np.uint8]
    """(height, width, 3) RGB or (height, width) grey."""

    @classmethod
    def to(cls, pixels: NDArray[np.uint8]) -> "ArrayReference":
        """A reference to `pixels`."""
        digest = hashlib.sha256(repr(pixels.shape).encode())
        digest.update(np.ascontiguousarray(pixels).data)
        path = f"array:{digest.hexdigest()}".encode()
        return cls(path, path, pixels=pixels)

    def stat(self) -> FileStat:
        """The size of the array; it has no time, and its path says what it is."""
        return FileStat(self.path, self.pixels.nbytes, 0, 0)

    def read(self) -> tuple[bytes, FileStat]:
        """The pixels as a BMP file: lossless and, unlike PNG, quick to make."""
        file = io.BytesIO()
        Image.fromarray(self.pixels).save(file, "BMP")
        return file.getvalue(), self.stat()


def checked(X: Any) -> list[bytes | NDArray[np.uint8]]:  # noqa: N803 - scikit-learn's name
    """Take X apart into absolute paths and arrays, without touching any file.

    X is a list, tuple, ndarray, series or frame of one column, of paths (str, bytes or path-like)
    or images (uint8); anything else is a TypeError or, as scikit-learn wants it, a ValueError.
    """
    if isinstance(X, str | bytes | os.PathLike):
        raise ValueError(f"X is one path, {X!r}; give a list of paths")  # noqa: TRY004
    if hasattr(X, "__array__"):  # those of pandas, Polars and others have it too
        X = _elements(np.asarray(X))  # noqa: N806
    if not isinstance(X, Sequence):
        raise TypeError(f"X is of the type {type(X).__name__}; {_WANTED}")
    if not X:
        raise ValueError("X is empty, with 0 sample(s); at least one image is needed")
    return [_element(one, number) for number, one in enumerate(X)]


def references(samples: Sequence[bytes | NDArray[np.uint8]]) -> list[ImageReference]:
    """The images that `checked` found in X."""
    return [
        ImageReference(one, one) if isinstance(one, bytes) else ArrayReference.to(one)
        for one in samples
    ]


def _elements(array: NDArray[Any]) -> list[Any]:
    images = array.ndim == 4 and array.dtype == np.uint8
    column = array.ndim == 2 and array.shape[1] == 1
    if not images and (array.dtype.kind not in _TEXTS or not (array.ndim == 1 or column)):
        raise ValueError(f"X is an array of {array.dtype} and shape {array.shape}; {_WANTED}")
    return list(array if images else array.ravel())


def _element(one: object, number: int) -> bytes | NDArray[np.uint8]:
    if isinstance(one, str | bytes | os.PathLike):
        path = os.fsencode(one)
        if not path or b"\0" in path:
            raise ValueError(f"X[{number}] is not a path: {path!r} is empty or has a NUL in it")
        return absolute(path)
    if not hasattr(one, "__array__"):
        raise TypeError(f"X[{number}] is of the type {type(one).__name__}; {_WANTED}")
    pixels = np.asarray(one)
    if (
        pixels.dtype != np.uint8
        or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3))
        or not 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
    ):
        raise ValueError(
            f"X[{number}] is an array of {pixels.dtype} and shape {pixels.shape}; {_WANTED}"
        )
    return pixels
