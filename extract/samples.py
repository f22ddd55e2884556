"""What scikit-learn calls X -> the images that it lists."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from ..features.known import FileStat
from .decode import MAX_PIXELS
from .sources import ImageReference, absolute

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WANTED: Final = (
    "give a list or column of paths, or images as uint8 arrays: (n, height, width, 3), or a list "
    "of (height, width, 3) or (height, width)"
)
_TEXTS: Final = "USTO"  # kinds of dtype that can hold paths: str, bytes, NumPy's text, objects


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ArrayReference(ImageReference):
    """An image that is no file but an array; read, it is one all the same.

    Its path is a digest of the pixels, so that equal arrays are one image.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (height, width, 3) or (height, width)
        RGB or grey.
    """

    pixels: NDArray[np.uint8]

    @classmethod
    def to(cls, pixels: NDArray[np.uint8]) -> ArrayReference:
        """The image that `pixels` are."""
        digest = hashlib.sha256(repr(pixels.shape).encode())
        digest.update(np.ascontiguousarray(pixels).data)
        path = f"array:{digest.hexdigest()}".encode()
        return cls(path, path, pixels=pixels)

    def stat(self) -> FileStat:
        """The size of the array; it has no time."""
        return FileStat(self.path, self.pixels.nbytes, 0)

    def read(self) -> tuple[bytes, FileStat]:
        """The pixels as a BMP file: nothing is lost and, other than with PNG, little computed."""
        file = io.BytesIO()
        Image.fromarray(self.pixels).save(file, "BMP")
        return file.getvalue(), self.stat()


def checked(X: Any) -> list[bytes | NDArray[np.uint8]]:  # noqa: N803 - scikit-learn's name
    """Take X apart into absolute paths and arrays, without a look at any file.

    Parameters
    ----------
    X : list, tuple, ndarray, series or frame of one column
        Paths (str, bytes or path-like) or images (uint8).

    Raises
    ------
    TypeError, ValueError
        If it, or one of its elements, is nothing of the kind, or if it is empty.
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
            raise ValueError(f"X[{number}] is no path: {path!r} is empty or has a NUL in it")
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
