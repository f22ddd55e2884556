"""The default engine: the frozen graph through one compiled Keras call, on any Keras backend."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ...features.errors import WrongUsage
from ..backbones import build as backbones
from ..backbones.build import Backbone
from ..backbones.request import Request
from ..machine import import_keras, may_have_gpu, versions
from .engine import Engine, Run, Tuning

_PIXELS_A_CALL: Final = 720_000
_SMALLEST_BATCH, _LARGEST_BATCH = 8, 64
_THREADS_VARIABLE: Final = "TF_NUM_INTRAOP_THREADS"


def available() -> bool:
    """Always: headstart depends on Keras."""
    return True


def devices() -> list[str]:
    """What it computes on; only where there is a sign of a GPU this imports Keras, for seconds."""
    return (gpus() if may_have_gpu() else []) or ["CPU"]


def load(request: Request, tuning: Tuning) -> tuple[Backbone, KerasEngine]:
    """Build the backbone that `request` describes and compile it."""
    if tuning.threads or tuning.share:
        _use_threads(tuning)
    backbone = backbones.build(request)
    return backbone, KerasEngine(backbone, tuning)


class KerasEngine(Engine):
    """Runs a Keras graph by TensorFlow, JAX or whatever Keras' backend is.

    By default it takes 8 images a call at 299 pixels, where larger batches gain nothing but waste
    more on a short one, up to 64 at small sizes, where they gain half as much again; a power of
    two, which divides a unit.
    """

    name: ClassVar[str] = "keras"

    def __init__(self, backbone: Backbone, tuning: Tuning | None = None) -> None:
        tuning = tuning or Tuning()
        self._graph = backbone.graph
        self._backend = import_keras().backend.backend()
        fitting = max(1, _PIXELS_A_CALL // backbone.size**2)
        usual = min(_LARGEST_BATCH, max(_SMALLEST_BATCH, 1 << (fitting.bit_length() - 1)))
        super().__init__(backbone, tuning.batch or usual)

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

    # Recent GPUs would otherwise multiply with ten bits where float32 is asked for.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    call = tf.function(
        lambda images: graph(images, training=False),
        input_signature=[tf.TensorSpec(shape, tf.uint8)],
    ).get_concrete_function()
    return lambda images: call(tf.constant(images)).numpy()


def _by_jax(graph: Any) -> Run:
    import jax

    # As arguments: constants inside the function would be folded for minutes by XLA.
    weights = (
        [variable.value for variable in graph.trainable_variables],
        [variable.value for variable in graph.non_trainable_variables],
    )
    call = jax.jit(lambda kept, images: graph.stateless_call(*kept, images, training=False)[0])

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with jax.default_matmul_precision("float32"):  # as above
            return np.asarray(call(weights, images))

    return run


def _use_threads(tuning: Tuning) -> None:
    """Have TensorFlow, before it starts, use as many cores as it should."""
    backend = import_keras().backend.backend()
    if tuning.threads is None and (backend != "tensorflow" or _THREADS_VARIABLE in os.environ):
        return  # a share is no more than a wish
    if backend != "tensorflow":
        raise WrongUsage(f"threads cannot be set where Keras runs on {backend}")
    import tensorflow

    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(tuning.threads or tuning.share)
    except RuntimeError as error:
        if tuning.threads is not None:
            raise WrongUsage(
                f"threads {tuning.threads}: TensorFlow has started in this process with another "
                f"number of threads; ask for them before anything else uses it"
            ) from error


def gpus() -> list[str]:
    """Names of the GPUs that Keras' backend computes on; imports that backend."""
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
