"""The default engine: batches of uint8 images through one compiled Keras call of fixed shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..backbones import Backbone, import_keras

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_PIXELS_A_CALL: Final = 720_000
_SMALLEST_BATCH, _LARGEST_BATCH = 8, 64


class KerasEngine:
    """Runs a backbone.

    Every call has the same shape: a short batch is filled up with black images, so that the graph
    is compiled once and a vector does not depend on how many images came with it.

    Parameters
    ----------
    backbone : Backbone
        The frozen graph.
    batch : int, optional
        Images a call. By default 8 at 299 pixels, where larger batches gain nothing but waste more
        on a short one, up to 64 at small sizes, where they gain half as much again.
    """

    def __init__(self, backbone: Backbone, batch: int | None = None) -> None:
        if batch is None:
            fitting = _PIXELS_A_CALL // backbone.size**2
            batch = min(_LARGEST_BATCH, max(_SMALLEST_BATCH, fitting))
        self.batch = batch
        self._dimension = backbone.dimension
        self._shape = (batch, backbone.size, backbone.size, 3)
        self._run = _compiled(backbone.graph, self._shape)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Vectors of images.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, size, size, 3)
            RGB; any n.

        Returns
        -------
        ndarray of float32, shape (n, D)
        """
        vectors = np.empty((len(images), self._dimension), np.float32)
        for start in range(0, len(images), self.batch):
            part = images[start : start + self.batch]
            filled = np.zeros(self._shape, np.uint8)
            filled[: len(part)] = part
            vectors[start : start + len(part)] = np.asarray(self._run(filled))[: len(part)]
        return vectors


def _compiled(graph: Any, shape: tuple[int, ...]) -> Callable[[NDArray[np.uint8]], Any]:
    if import_keras().backend.backend() != "tensorflow":
        run: Callable[[NDArray[np.uint8]], Any] = graph.predict_on_batch
        return run
    import tensorflow as tf

    # Without the callbacks and the Python loop that `predict` puts around every batch.
    call = tf.function(
        lambda images: graph(images, training=False),
        input_signature=[tf.TensorSpec(shape, tf.uint8)],
    )
    compiled: Callable[[NDArray[np.uint8]], Any] = call.get_concrete_function()
    return lambda images: compiled(tf.constant(images))
