"""A backbone + a dense layer -> one model file that takes pixels and gives class probabilities."""

import importlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ...features.errors import BackboneError, MissingExtra, WrongUsage, install_command
from ..machine import import_keras, installed, keras_setting
from . import build as backbones
from . import onnx as as_onnx
from .onnx import IMAGES, ONNX_NEEDS
from .request import Request

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

KERAS: Final = ".keras"
ONNX: Final = ".onnx"
SUFFIXES: Final = (KERAS, ONNX)
PROBABILITIES: Final = "probabilities"
ABOUT: Final = "headstart.json"
"""Member of a .keras archive, ignored by Keras, with the labels and where they come from."""


class Top(Protocol):
    """What comes after pooling: one dense layer."""

    @property
    def kernel(self) -> NDArray[np.floating]:
        """(D, K): a column for each class."""

    @property
    def bias(self) -> NDArray[np.floating]:
        """(K,), added to ``vectors @ kernel``."""

    @property
    def activation(self) -> Literal["softmax", "sigmoid"]:
        """Turns the sums into probabilities; those of sigmoids are divided by their sum."""


def require_writable(path: Path) -> None:
    """Refuse, before a backbone is loaded, a file that cannot be written here."""
    if path.suffix.lower() not in SUFFIXES:
        raise WrongUsage(f"{path}: a model is exported as NAME.keras or NAME.onnx; name it so")
    if path.suffix.lower() == KERAS:
        return
    missing = [name for name in ONNX_NEEDS if not installed(name)]
    if missing:
        raise MissingExtra(
            f"{path}: ONNX files need {' and '.join(missing)}; install with: "
            f"{install_command('onnx')}"
        )
    if import_keras().backend.backend() != "tensorflow":
        raise BackboneError(
            f"{path}: ONNX files are made by TensorFlow, and Keras runs on another backend "
            f"({keras_setting() or 'imported before'}); set KERAS_BACKEND=tensorflow, or export "
            f"NAME.keras"
        )


def write(
    path: Path,
    request: Request,
    top: Top,
    about: Mapping[str, Any],
    before: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
) -> Run:
    """Write the backbone (in float32) and its dense layer as one model, and read it back.

    A path in ``.keras`` becomes a plain Keras model (rescaling, the frozen backbone with its
    pooling, one dense layer), one in ``.onnx`` a graph for onnxruntime. `about`, values that JSON
    knows, goes into the file beside the graph. `before` are factors and summands, (D,) each, of
    vectors that are then divided by their lengths, before the dense layer. What comes back runs the
    file that was written: (n, size, size, 3) uint8 RGB -> (n, K) float32.
    """
    keras = import_keras()
    with backbones.keras_as_recorded(keras):
        model = _model(keras, request, top, before)
    write_as, read = (
        (_write_keras, _read_keras) if path.suffix == KERAS else (_write_onnx, _read_onnx)
    )
    write_as(model, path, about)
    return read(path)


def _model(keras: Any, request: Request, top: Top, before: Any) -> Any:
    layers = keras.layers
    base, _ = backbones.base(keras, request)
    images = keras.Input((request.size, request.size, 3), dtype="uint8", name=IMAGES)
    scale, offset, reverse = _rescaling(backbones.normalisation(keras, request))
    pixels = images[..., ::-1] if reverse else images
    vectors = base(layers.Rescaling(scale, offset, name="rescaling")(pixels), training=False)
    if before is not None:
        scale, offset = (values.tolist() for values in before)
        centred = layers.Rescaling(scale, offset, name="centring")(vectors)
        vectors = layers.UnitNormalization(name="length_one")(centred)
    if top.activation == "softmax":
        dense = layers.Dense(len(top.bias), activation="softmax", name=PROBABILITIES)
        output = dense(vectors)
    else:
        # Sigmoids divided by their sum are the softmax of their logarithms.
        dense = layers.Dense(len(top.bias), activation="log_sigmoid", name="classes")
        output = layers.Softmax(name=PROBABILITIES)(dense(vectors))
    dense.set_weights([top.kernel.astype(np.float32), top.bias.astype(np.float32)])
    return keras.Model(images, output, name=f"{request.architecture.name}_classifier")


def _rescaling(normalise: Callable[[Any], Any]) -> tuple[Any, Any, bool]:
    """Scale and offset of each channel, and whether RGB becomes BGR, found out by three pixels.

    All of ``keras.applications`` scale and shift the channels; those that were trained by Caffe
    reverse them too.
    """
    black, white, graded = (
        np.asarray(normalise(np.array(pixel, np.float32).reshape(1, 1, 1, 3))).reshape(3)
        for pixel in ((0, 0, 0), (255, 255, 255), (10, 20, 30))
    )
    scale, offset = (white - black) / 255, black
    reverse = not np.allclose(graded, scale * (10, 20, 30) + offset, atol=1e-3)
    return _plain(scale), _plain(offset), reverse


def _plain(channels: NDArray[np.floating]) -> float | list[float]:
    """One number if all channels have the same."""
    values: list[float] = channels.astype(np.float64).tolist()
    return values[0] if len(set(values)) == 1 else values


def _write_keras(model: Any, path: Path, about: Mapping[str, Any]) -> None:
    model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(ABOUT, json.dumps(about, indent=2))


def _read_keras(path: Path) -> Run:
    keras = import_keras()
    loaded = keras.models.load_model(path)
    return lambda images: keras.ops.convert_to_numpy(loaded(images, training=False))


def _write_onnx(model: Any, path: Path, about: Mapping[str, Any]) -> None:
    graph = as_onnx.converted(model, PROBABILITIES)
    onnx = importlib.import_module("onnx")
    onnx.helper.set_model_props(graph, {name: json.dumps(about[name]) for name in about})
    onnx.save(graph, str(path))


def _read_onnx(path: Path) -> Run:
    onnxruntime = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([PROBABILITIES], {IMAGES: images})[0])
