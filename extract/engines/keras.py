"""The default engine: the frozen graph through one compiled Keras call, on any Keras backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from ..backbones import import_keras, versions
from .engine import Engine, Tuning

if TYPE_CHECKING:
    from ..backbones import Backbone
    from .engine import Run

_PIXELS_A_CALL: Final = 720_000
_SMALLEST_BATCH, _LARGEST_BATCH = 8, 64


class KerasEngine(Engine):
    """Runs a Keras graph by TensorFlow, JAX or whatever Keras' backend is.

    Parameters
    ----------
    backbone : Backbone
        Its graph is a Keras model.
    tuning : Tuning, optional
        By default 8 images a call at 299 pixels, where larger batches gain nothing but waste more
        on a short one, up to 64 at small sizes, where they gain half as much again.
    """

    name: ClassVar[str] = "keras"

    def __init__(self, backbone: Backbone, tuning: Tuning | None = None) -> None:
        batch = tuning.batch if tuning else None
        if batch is None:
            fitting = _PIXELS_A_CALL // backbone.size**2
            batch = min(_LARGEST_BATCH, max(_SMALLEST_BATCH, fitting))
        self._graph = backbone.graph
        self._backend = import_keras().backend.backend()
        super().__init__(backbone, batch)

    def environment(self) -> dict[str, Any]:
        """Keras, its backend and the device."""
        return {
            "engine": self.name,
            "backend": self._backend,
            "device": ", ".join(gpus()) or "CPU",
            **versions("keras", self._backend),
        }

    def _compile(self, batch: int) -> Run:
        # Without the callbacks and the Python loop that `predict` puts around every batch.
        if self._backend == "tensorflow":
            return _by_tensorflow(self._graph, (batch, *self._shape))
        if self._backend == "jax":
            return _by_jax(self._graph)
        run: Run = self._graph.predict_on_batch
        return run


def _by_tensorflow(graph: Any, shape: tuple[int, ...]) -> Run:
    import tensorflow as tf

    call = tf.function(
        lambda images: graph(images, training=False),
        input_signature=[tf.TensorSpec(shape, tf.uint8)],
    ).get_concrete_function()
    return lambda images: call(tf.constant(images)).numpy()  # type: ignore[no-any-return]


def _by_jax(graph: Any) -> Run:
    import jax

    # As arguments: constants inside the function would be folded for minutes by XLA.
    weights = (
        [variable.value for variable in graph.trainable_variables],
        [variable.value for variable in graph.non_trainable_variables],
    )
    call = jax.jit(lambda kept, images: graph.stateless_call(*kept, images, training=False)[0])
    return lambda images: np.asarray(call(weights, images))


def gpus() -> list[str]:
    """Names of the GPUs that Keras' backend computes on; imports it."""
    backend = import_keras().backend.backend()
    if backend == "tensorflow":
        import tensorflow

        return [gpu.name for gpu in tensorflow.config.list_physical_devices("GPU")]
    if backend == "jax":
        import jax

        return [str(device) for device in jax.devices() if device.platform != "cpu"]
    if backend == "torch":
        import torch

        return [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return []
