"""The images of a feature file, found again where they lie: thumbnails of rows, never of others."""

import hashlib
import io
import os
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image

from ..extract.images.decode import Undecodable, decode
from ..extract.sources import scan
from ..extract.sources.image import ImageReference, Unreadable
from ..extract.sources.lists.manifest import is_list
from ..features.errors import HeadstartError, SourceError, first_line
from ..features.provenance import Given
from ..features.records import FileStat
from ..features.store import FeatureStore

_SIDE: Final = 128
_DECODED: Final = 150
"""Pixels from which on a large JPEG is decoded at a fraction of its size (`decode`): a photograph
of 12 megapixels then takes a quarter of the time."""
_QUALITY: Final = 60
"""Of WebP: 1.7 kB a thumbnail of a photograph in the mean, artefacts hardly visible."""
_METHOD: Final = 2
"""Of WebP's efforts, from 0 to 6: half the time of the default 4 for 6% more bytes."""
_LEAST: Final = 64
"""The largest difference of two images becomes white, unless it is smaller than this: what JPEG
leaves of a copy stays dark."""


class Missing(Exception):
    """An image cannot be shown; the message is the reason, in a few words."""


class Pictures:
    """The images of a feature file, each shown only if its bytes are those that were embedded.

    Parameters
    ----------
    store : FeatureStore
        What the rows are of.
    images : str or path-like, optional
        The source where the images are now; by default the one that the file was made from.

    Attributes
    ----------
    source : str
        That source.

    Raises
    ------
    SourceError
        If `images` is given and not there. (A recorded source that is gone makes every image
        `Missing` instead: what is known of them can be shown all the same.)
    """

    def __init__(self, store: FeatureStore, images: str | os.PathLike[str] | None = None) -> None:
        self._store = store
        self.source = os.fspath(images or str(store.environment.get("source", "")))
        self._find = _finder(self.source, named=images is not None)

    def read(self, row: int) -> bytes:
        """The bytes of the image file of a row.

        Raises
        ------
        Missing
            If it is gone, cannot be read, or its SHA-256 is not that of the row.
        """
        reference = found_again(self._find, self._store, row)
        if reference is None:
            raise Missing("no longer there")
        try:
            data, _ = reference.read()
        except (Unreadable, MemoryError) as error:
            raise Missing("cannot be read" if reference.exists() else "no longer there") from error
        if hashlib.sha256(data).digest() != self._store.digests[row].tobytes():
            raise Missing("has changed since")
        return data

    def thumbnail(self, row: int, side: int = _SIDE) -> bytes:
        """WebP of the upright image of a row, its longer side `side` pixels; see `read`."""
        image, (width, height) = self._decoded(row, side)
        longer = max(width, height)
        size = max(1, round(side * width / longer)), max(1, round(side * height / longer))
        return _webp(image.resize(size, Image.Resampling.LANCZOS))

    def difference(self, row: int, other: int, side: int = _SIDE) -> bytes:
        """WebP of how two images differ, each stretched to a square of `side` pixels; see `read`.

        Black where they are the same; the largest difference is white.
        """
        one, two = (
            np.asarray(self._decoded(each, side)[0].resize((side, side)), np.int16)
            for each in (row, other)
        )
        apart = np.abs(one - two)
        scaled = apart * (255 / max(int(apart.max()), _LEAST))
        return _webp(Image.fromarray(scaled.astype(np.uint8)))

    def _decoded(self, row: int, side: int) -> tuple[Image.Image, tuple[int, int]]:
        """An image stretched to a square, at least `side` pixels; its own width and height."""
        try:
            found = decode(self.read(row), max(side, _DECODED))
        except Undecodable as error:
            raise Missing(first_line(error)) from error
        except MemoryError as error:
            raise Missing("takes more memory than there is") from error
        return Image.fromarray(found.pixels), (found.width, found.height)


class Texts:
    """Examples that are no images: each is shown by its text, or else by its id.

    It stands where `Pictures` does, and has none to show: the message of `Missing` is the text.

    Parameters
    ----------
    store : FeatureStore
        What the rows are of.

    Attributes
    ----------
    source : str
        The list that they are from, if they are from one.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self.source = str(store.environment.get("source", ""))

    def text(self, row: int) -> str:
        """What there is to read of a row."""
        said = self._store.texts[row] if self._store.has_texts else ""
        return said or self._store.paths[row]

    def thumbnail(self, row: int, side: int = _SIDE) -> bytes:  # noqa: ARG002 - as of pictures
        """Raise `Missing` with the text."""
        raise Missing(self.text(row))

    def difference(self, row: int, other: int, side: int = _SIDE) -> bytes:  # noqa: ARG002
        """Raise `Missing`: texts have no difference that could be seen."""
        raise Missing("")


def texts_of(store: FeatureStore) -> Texts | None:
    """What is read of the rows of a file where there are no images; None where there are."""
    return Texts(store) if isinstance(store.provenance, Given) else None


Shown = Pictures | Texts
"""What rows of a feature file look like."""


def shown(store: FeatureStore, images: str | os.PathLike[str] | None = None) -> Shown:
    """The images of a feature file, where they are now; or the texts of given vectors.

    Raises
    ------
    SourceError
        As of `Pictures`; if `images` is given for vectors that are of none.
    """
    texts = texts_of(store)
    if texts is None:
        return Pictures(store, images)
    if images is not None:
        raise SourceError(
            f"--images {os.fspath(images)}: the vectors of {store.name} were given, and it does "
            f"not say which images they are of; leave it out"
        )
    return texts


Find = Callable[[bytes], ImageReference | None]


def found_again(find: Find, store: FeatureStore, row: int) -> ImageReference | None:
    """The image of a row: at its path, or at an end of its path if it is that very image there.

    A list names images from where it lies; a folder that was moved may have another name now.
    """
    path = store.raw_paths[row]
    image = find(path)
    if image is not None and (type(image) is not ImageReference or image.exists()):
        return image
    while path:
        path = path.partition(b"/")[2]
        other = find(path) if path else None
        if other is not None and other.exists() and is_same(other, store, row):
            return other
    return image


def is_same(image: ImageReference, store: FeatureStore, row: int) -> bool:
    """Whether an image is the one of a row: as it was seen then, or else by its digest."""
    size, time, stamp = store.stats[row].tolist()[:3]
    if stamp and image.stat() == FileStat(store.raw_paths[row], size, time, stamp):
        return True
    own: bytes = store.digests[row].tobytes()
    return image.digest() == own


def _finder(source: str, *, named: bool) -> Find:
    """How an image is found by its path; a `named` source must be there.

    Paths are relative to a folder, to that of a list, or absolute: such files need no search.
    """
    place = os.fsencode(source)
    folder = os.path.dirname(place) if is_list(place) else place
    if os.path.isdir(folder) and (os.path.isdir(place) or os.path.exists(place) or not named):
        return lambda path: ImageReference(path, os.path.join(folder, path))
    try:
        listed = scan(source)
    except HeadstartError as error:
        if named:
            raise SourceError(f"--images {error}") from error
        return lambda _: None
    return {image.path: image for image in listed}.get


def _webp(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY, method=_METHOD)
    return file.getvalue()
