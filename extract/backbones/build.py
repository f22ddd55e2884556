"""A request -> the frozen graph: a batch of uint8 RGB images in, pooled vectors out."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Final

from ..images.synthetic import synthetic_images
from ..machine import import_keras
from .request import Request
from .weights import IMAGENET, RANDOM, digest, fill_random, imagenet_download, load_file

_CALIBRATION_IMAGES: Final = 32
_CALIBRATION_SEED: Final = 2


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A frozen graph with its weights."""

    graph: Any
    """(n, size, size, 3) uint8 RGB -> (n, dimension) float32, always in inference mode, with
    normalisation and average pooling inside: a Keras model, or a converted graph (an OpenVINO
    model, the bytes of an ONNX one, or the path of either), which has no precision of its own."""
    weights_digest: str
    """SHA-256 over the weights (hexadecimal)."""
    size: int
    """Pixels a side."""
    dimension: int
    """Numbers per vector."""


def build(request: Request) -> Backbone:
    """Build the graph that `request` describes and fill it with its weights."""
    keras = import_keras()
    with keras_as_recorded(keras):
        model, weights_digest = base(keras, request)
        images = keras.Input((request.size, request.size, 3), dtype="uint8")
        normalised = normalisation(keras, request)(keras.ops.cast(images, "float32"))
        vectors = model(normalised, training=False)
        graph = keras.Model(
            images, keras.ops.cast(vectors, "float32"), name=request.architecture.name
        )
    return Backbone(graph, weights_digest, request.size, int(vectors.shape[-1]))


def base(keras: Any, request: Request) -> tuple[Any, str]:
    """The frozen backbone itself, (n, size, size, 3) normalised -> (n, D) pooled, as a Keras model.

    With it comes the digest of its weights. Call it inside `keras_as_recorded`.
    """
    model, weights_digest = _with_weights(keras, request)
    model.trainable = False
    return model, weights_digest


def normalisation(keras: Any, request: Request) -> Callable[[Any], Any]:
    """The function that maps 0..255 to the values that the backbone was trained on."""
    of_module: Callable[[Any], Any]
    of_module = getattr(keras.applications, request.architecture.module).preprocess_input
    return of_module


def _with_weights(keras: Any, request: Request) -> tuple[Any, str]:
    kind = request.weights.kind
    if kind == RANDOM:
        return _random_model(keras, request)
    download = imagenet_download(request.architecture.name)
    with (
        _computing_in(keras, request.precision),
        download if kind == IMAGENET else contextlib.nullcontext(),
    ):
        model = _application(keras, request, weights=IMAGENET if kind == IMAGENET else None)
    return model, digest(model) if kind == IMAGENET else load_file(model, request.weights)


def _random_model(keras: Any, request: Request) -> tuple[Any, str]:
    # Calibrated in float32 for every precision, so that the weights are the same.
    model = _application(keras, request, weights=None)
    images = synthetic_images(_CALIBRATION_IMAGES, _CALIBRATION_SEED, request.size)
    normalise = normalisation(keras, request)
    weights_digest = fill_random(model, normalise(images.astype("float32")))
    if request.precision == "f32":
        return model, weights_digest
    with _computing_in(keras, request.precision):
        other = _application(keras, request, weights=None)
    other.set_weights(model.get_weights())
    return other, weights_digest


@contextlib.contextmanager
def _computing_in(keras: Any, precision: str) -> Iterator[None]:
    """Layers made in this context keep float32 weights and compute in `precision`."""
    keras.config.set_dtype_policy({"f32": "float32", "bf16": "mixed_bfloat16"}[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def _application(keras: Any, request: Request, *, weights: str | None) -> Any:
    return getattr(keras.applications, request.architecture.name)(
        include_top=False,
        weights=weights,
        input_shape=(request.size, request.size, 3),
        pooling="avg",  # not by a layer of ours: ConvNeXt normalises what was pooled
    )


@contextlib.contextmanager
def keras_as_recorded(keras: Any) -> Iterator[None]:
    """Build with the settings that every provenance stands for, whatever the user's are."""
    # Keras' settings are global to the process and to the user's keras.json; a mixed policy would
    # change the vectors while the provenance still says f32.
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
