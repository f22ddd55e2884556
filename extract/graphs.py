"""A request -> its graph converted for OpenVINO, kept in a folder of the user's cache.

Converting takes seconds and needs TensorFlow; reading the result takes neither. The folder can be
deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import platformdirs

from ..features import durable
from ..features.errors import BackboneError
from ..features.words import first_line
from . import backbones
from .backbones import Backbone, versions
from .engines.openvino import import_openvino

if TYPE_CHECKING:
    from .request import Request

_RECIPE: Final = 1
"""Raise it by one in the commit that changes how graphs are built or converted."""

_GRAPH: Final = "graph.xml"
_FILES: Final = (_GRAPH, "graph.bin")
_ABOUT: Final = "about.json"

_log = logging.getLogger("headstart")


def folder() -> Path:
    """Where converted graphs are kept: ``$HEADSTART_CACHE``, or the user's cache folder."""
    home = os.environ.get("HEADSTART_CACHE")
    return (Path(home) if home else platformdirs.user_cache_path("headstart")) / "graphs"


def cached(request: Request) -> Backbone | None:
    """The converted graph of `request`, if it is in the cache and sound.

    A damaged one is removed, with a line on the log.
    """
    place = _place(request)
    if not place.is_dir():
        return None
    try:
        return _read(place, request)
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s: damaged (%s); converting this graph again", place, first_line(error))
        shutil.rmtree(place, ignore_errors=True)
        return None


def convert(request: Request) -> Backbone:
    """Build the graph of `request` with Keras, convert it and keep the result.

    Returns
    -------
    Backbone
        Its graph is the path of the converted one.

    Raises
    ------
    BackboneError
        If the weights cannot be had or do not fit, if Keras does not run on TensorFlow, or if the
        result cannot be written.
    """
    if backbones.import_keras().backend.backend() != "tensorflow":
        raise BackboneError(
            "the openvino engine converts graphs by TensorFlow, and Keras is set to another "
            "backend; unset KERAS_BACKEND for this first run, or use --engine keras"
        )
    backbone = backbones.build(request)
    model = _converted(backbone)
    place = _place(request)
    temporary = place.with_name(f".{place.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        _write(model, temporary, backbone)
        try:
            os.replace(temporary, place)
        except OSError:
            if not place.is_dir():  # otherwise another process was first, with the same graph
                raise
        return _read(place, request)
    except (OSError, RuntimeError) as error:
        raise BackboneError(
            f"{place.parent}: the converted graph cannot be kept there: {first_line(error)}; set "
            f"HEADSTART_CACHE to a folder with room for it, or use --engine keras"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _place(request: Request) -> Path:
    # All that goes into the graph, as far as it is known without building it: what the weights
    # called "imagenet" are is up to the version of Keras. Precision is chosen when it is run.
    recipe = {
        "recipe": _RECIPE,
        "backbone": request.architecture.name,
        "size": request.size,
        "weights": [request.weights.kind, request.weights.sha256],
        **versions("keras", "tensorflow", "openvino"),
    }
    identity = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    return folder() / f"{request.architecture.name}-{request.size}-{identity[:16]}"


def _converted(backbone: Backbone) -> Any:
    import tensorflow as tf

    openvino = import_openvino()

    # Any number of images: the engine fixes it when it compiles.
    signature = [tf.TensorSpec((None, backbone.size, backbone.size, 3), tf.uint8)]
    traced = tf.function(
        lambda images: backbone.graph(images, training=False), input_signature=signature
    ).get_concrete_function()
    model = openvino.convert_model(traced)
    # Every swish (TensorFlow's IdentityN) comes out as one more output, before ours.
    vectors = model.output(traced.outputs[0].name)
    return openvino.Model([vectors.get_node()], model.get_parameters())


def _write(model: Any, place: Path, backbone: Backbone) -> None:
    import_openvino().save_model(model, place / _GRAPH, compress_to_fp16=False)
    about = {
        "weights_digest": backbone.weights_digest,
        "dimension": backbone.dimension,
        "sha256": {name: _sha256(place / name) for name in _FILES},
    }
    (place / _ABOUT).write_text(json.dumps(about), "ascii")
    for name in (*_FILES, _ABOUT):
        durable.sync(place / name)


def _read(place: Path, request: Request) -> Backbone:
    about = json.loads((place / _ABOUT).read_text("ascii"))
    for name in _FILES:
        if _sha256(place / name) != about["sha256"][name]:
            raise ValueError(f"{name} has another checksum than when it was written")
    return Backbone(place / _GRAPH, about["weights_digest"], request.size, int(about["dimension"]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
