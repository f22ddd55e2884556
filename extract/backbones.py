"""A request -> the frozen graph: a batch of uint8 RGB images in, pooled vectors out."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from ..features.errors import WrongUsage
from .canary import synthetic_images
from .weights import IMAGENET, RANDOM, digest, fill_random, imagenet_download, load_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .request import Request

_CALIBRATION_IMAGES: Final = 32
_CALIBRATION_SEED: Final = 2


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A frozen graph with its weights.

    Attributes
    ----------
    graph : keras.Model or Path
        (n, size, size, 3) uint8 RGB -> (n, dimension) float32. Normalisation and average pooling
        are inside; it always runs in inference mode. A path is that of a converted graph, which
        has no precision of its own.
    weights_digest : str
        SHA-256 over the weights.
    size, dimension : int
        Pixels a side; numbers a vector.
    """

    graph: Any
    weights_digest: str
    size: int
    dimension: int


def build(request: Request) -> Backbone:
    """Build the graph that `request` describes and fill it with its weights.

    Raises
    ------
    BackboneError
        If the weights cannot be had or do not fit.
    """
    keras = import_keras()
    with _keras_as_recorded(keras):
        model, weights_digest = _model(keras, request)
        if request.precision == "bf16":
            model = _in_bf16(keras, request, model)
        model.trainable = False
        normalise = getattr(keras.applications, request.architecture.module).preprocess_input
        images = keras.Input((request.size, request.size, 3), dtype="uint8")
        vectors = model(normalise(keras.ops.cast(images, "float32")), training=False)
        graph = keras.Model(
            images, keras.ops.cast(vectors, "float32"), name=request.architecture.name
        )
    return Backbone(graph, weights_digest, request.size, int(vectors.shape[-1]))


def _in_bf16(keras: Any, request: Request, model: Any) -> Any:
    """The same backbone and float32 weights, computing in bfloat16.

    Random weights have to be calibrated in float32 first, so that they are the same in both.
    """
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = _application(keras, request, weights=None)
    keras.config.set_dtype_policy("float32")
    half.set_weights(model.get_weights())
    return half


def _model(keras: Any, request: Request) -> tuple[Any, str]:
    """The backbone with its weights, not frozen yet, and the digest of the weights."""
    kind = request.weights.kind
    download = imagenet_download(request.architecture.name)
    with download if kind == IMAGENET else contextlib.nullcontext():
        model = _application(keras, request, weights=IMAGENET if kind == IMAGENET else None)
    if kind == RANDOM:
        images = synthetic_images(_CALIBRATION_IMAGES, _CALIBRATION_SEED, request.size)
        normalise = getattr(keras.applications, request.architecture.module).preprocess_input
        return model, fill_random(model, normalise(images.astype("float32")))
    return model, digest(model) if kind == IMAGENET else load_file(model, request.weights)


def _application(keras: Any, request: Request, *, weights: str | None) -> Any:
    return getattr(keras.applications, request.architecture.name)(
        include_top=False,
        weights=weights,
        input_shape=(request.size, request.size, 3),
        pooling="avg",
    )


@contextlib.contextmanager
def _keras_as_recorded(keras: Any) -> Iterator[None]:
    # Keras' settings are global to the process and to the user's keras.json; a mixed policy would
    # change the vectors behind the back of a provenance that says f32.
    settings = keras.config
    before = settings.floatx(), settings.image_data_format(), settings.dtype_policy()
    settings.set_floatx("float32")
    settings.set_image_data_format("channels_last")
    settings.set_dtype_policy("float32")
    try:
        yield
    finally:
        settings.set_floatx(before[0])
        settings.set_image_data_format(before[1])
        settings.set_dtype_policy(before[2])


def import_keras() -> Any:
    """Import Keras with its backend, without the backend's chatter on standard error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" not in sys.modules:
        with _silent_stderr():
            importlib.import_module("keras")
            if sys.modules["keras"].backend.backend() == "tensorflow":
                _let_gpu_memory_grow()
    return sys.modules["keras"]


def _let_gpu_memory_grow() -> None:
    # Left alone, TensorFlow takes all the memory of every GPU, from other programs too.
    import tensorflow

    for gpu in tensorflow.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # it is in use already
            tensorflow.config.experimental.set_memory_growth(gpu, True)


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    # TensorFlow's native part writes "All log messages before absl::InitializeLog() ..." past
    # sys.stderr and past its own log level.
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def use_threads(threads: int) -> None:
    """Have TensorFlow use so many cores.

    Raises
    ------
    WrongUsage
        If it is running already with another number.
    """
    if import_keras().backend.backend() != "tensorflow":
        raise WrongUsage("threads can be set where Keras runs on TensorFlow; here it does not")
    import tensorflow

    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise WrongUsage(
            f"threads {threads}: TensorFlow has started in this process with another number of "
            f"threads; ask for them before anything else uses it"
        ) from error


def versions(*libraries: str) -> dict[str, str]:
    """Versions of installed libraries, told without importing them; unknown ones are left out."""
    found = {}
    for name in libraries:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
