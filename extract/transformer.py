"""ImageEmbedder: the frozen backbone as a transformer of scikit-learn, images in, vectors out."""

import functools
import operator
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError

from ..features.errors import WrongUsage
from ..features.origin import PRECISIONS
from . import cache
from .backbones.request import Request
from .backbones.weights import IMAGENET, RANDOM, WeightsSource
from .engines import AUTO
from .images.decode import FITS
from .sources import samples
from .vector_cache import VectorCache, shared


class ImageEmbedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embed images by a frozen, pretrained backbone, as a step of a scikit-learn pipeline.

    There is nothing to be learnt, so `transform` works without `fit`. Every image is embedded once
    and its vector kept on disk, where it is found again by other calls, clones and processes:
    cross-validation and searches cost one pass through the backbone, and with all images known the
    backbone is not even loaded. A file is known by its path, size, date, inode and time of change,
    an array by its pixels. Before a search in several processes, transform all images once, or they
    wait for each other while each embeds its part.

    Parameters
    ----------
    backbone, weights, precision, dtype, engine : str
    size : int, optional
        As for `headstart.extract.extract`; for int8 `weights` is a feature file of that precision.
    square : {"stretch", "crop", "pad"}, default="stretch"
        Distort an image to the square, cut its middle out, or add grey borders: the `fit` of
        `headstart.extract.extract`, whose name is that of a method here.
    cache : str or path-like, optional
        Folder for the vectors, which may be deleted at any time. By default ``embeddings`` in
        ``$HEADSTART_CACHE``, or in the user's cache folder.

    Notes
    -----
    Parameters are checked when the embedder is used. Clones in one process share one backbone,
    which stays in memory (the last two do, if several were asked for). The embedder itself holds
    nothing but its parameters, so a pickle of it, or of a pipeline with it, is small; the backbone
    is loaded again where it is used.

    Examples
    --------
    >>> from headstart.classify import ShrunkenScaler
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> pipeline = make_pipeline(ImageEmbedder(), ShrunkenScaler(), LogisticRegression())
    >>> pipeline.fit(["cat/1.jpg", "dog/1.jpg"], ["cat", "dog"])  # doctest: +SKIP
    """

    def __init__(
        self,
        backbone: str = "Xception",
        *,
        weights: str | os.PathLike[str] = IMAGENET,
        size: int | None = None,
        square: str = "stretch",
        precision: str = PRECISIONS[0],
        dtype: str = "float32",
        engine: str = AUTO,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.size = size
        self.square = square
        self.precision = precision
        self.dtype = dtype
        self.engine = engine
        self.cache = cache

    def fit(self, X: Any, y: object = None) -> "ImageEmbedder":  # noqa: ARG002, N803
        """Check the parameters and X as `transform` does; there is nothing to learn.

        Raises
        ------
        TypeError, ValueError
            If X, or an element of it, is neither paths nor images.
        WrongUsage, MissingExtra
            If a parameter has an impossible value, or the engine is not installed.
        """
        samples.checked(X)
        self._vector_cache()
        return self

    def transform(self, X: Any) -> NDArray[np.floating]:  # noqa: N803
        """Vectors of images, in their order.

        Parameters
        ----------
        X : list, tuple, ndarray, series or frame of one column
            Of n paths (str, bytes or path-like) to image files; or of n images: uint8, RGB
            (height, width, 3) or grey (height, width), in a list of any sizes or in one array
            (n, height, width, 3).

        Returns
        -------
        ndarray of shape (n, D)

        Raises
        ------
        TypeError, ValueError
            If X, or an element of it, is neither paths nor images.
        SourceError
            If an image cannot be read or decoded.
        HeadstartError
            If a parameter has a value that it cannot have, the weights are not available, or the
            cache is damaged, cannot be written, or holds vectors that were computed differently.
        """
        return self._vector_cache().vectors(samples.references(samples.checked(X)))

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:  # noqa: ARG002
        """Names of the D numbers of a vector: ``imageembedder0``, ``imageembedder1``, ...

        Raises
        ------
        NotFittedError
            If no image has been embedded with these parameters yet. (Notebooks ask for the names
            whenever they show an estimator, which must not load a backbone.)
        """
        dimension = self._vector_cache().dimension
        if dimension is None:
            raise NotFittedError(
                "the length of the vectors is unknown before the first one; transform an image"
            )
        prefix = type(self).__name__.lower()
        return np.array([f"{prefix}{number}" for number in range(dimension)], object)

    def _vector_cache(self) -> VectorCache:
        folder = cache.folder("embeddings")
        if self.cache is not None:
            if not isinstance(self.cache, str | os.PathLike):
                raise WrongUsage(f"cache {self.cache!r}: give the path of a folder")
            folder = Path(self.cache)
        try:
            folder = folder.absolute()
        except FileNotFoundError as error:
            raise WrongUsage(
                f"cache {folder}: the working folder that it is relative to no longer exists; give "
                f"an absolute path"
            ) from error
        return shared(self._request(), self.engine, folder)

    def _request(self) -> Request:
        if self.square not in FITS:
            raise WrongUsage(f"square {self.square!r}: use one of {', '.join(FITS)}")
        try:
            # NumPy's integers, as in a grid to search, become Python's, which can be recorded.
            size = None if self.size is None else operator.index(self.size)
        except TypeError as error:
            raise WrongUsage(f"size {self.size!r}: give a whole number of pixels") from error
        request = Request.checked(
            backbone=self.backbone,
            weights=_weights(self.weights),
            size=size,
            fit=self.square,
            precision=self.precision,
            dtype=self.dtype,
        )
        request.require_calibrated()
        return request

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _weights(weights: str | os.PathLike[str]) -> WeightsSource:
    """`WeightsSource.named`, which reads the whole of a file, once for each state of the file."""
    if isinstance(weights, str) and weights in (IMAGENET, RANDOM):
        return WeightsSource.named(weights)
    try:
        path = os.path.join(os.getcwd(), weights)
        status = os.stat(path)
    except (OSError, TypeError, ValueError):
        return WeightsSource.named(weights)
    return _weights_file(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=8)
def _weights_file(path: str, mtime_ns: int, size: int) -> WeightsSource:  # noqa: ARG001
    return WeightsSource.named(path)
