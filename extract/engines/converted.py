"""A request -> its graph converted for OpenVINO, kept in a folder of the user's cache.

Converting takes seconds and needs TensorFlow; reading the result takes neither. The folder can be
deleted at any time.
"""

import dataclasses
import errno
import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any, Final

from ...features import durable
from ...features.errors import BackboneError, first_line
from .. import cache
from ..backbones import build as backbones
from ..backbones.build import Backbone
from ..backbones.request import Request
from ..backbones.weights import sha256
from ..machine import import_keras, import_openvino, keras_setting, versions

_CONVERSION: Final = 3
"""Raise it by one in the commit that changes how graphs are built or converted."""

_GRAPH: Final = "graph.xml"
_FILES: Final = (_GRAPH, "graph.bin")
_ABOUT: Final = "about.json"
_GRAPH_BYTES: Final = 1 << 20
"""About as many as a graph takes without its weights."""

_log = logging.getLogger("headstart")


class NotConvertible(BackboneError):
    """Keras does not run on TensorFlow, from whose graphs those of OpenVINO are made."""


def cached(request: Request) -> Backbone | None:
    """The converted graph of `request`, as a path, if it is in the cache.

    One that is damaged or cannot be read is ignored, and reported on the log.
    """
    place = _place(request)
    if not os.path.isdir(place):
        return None
    try:
        return _read(place, request)
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s: damaged (%s); converting this graph again", place, first_line(error))
    except OSError as error:
        _log.warning("%s: cannot be read (%s); converting this graph", place, _reason(error))
    return None


def convert(request: Request) -> Backbone:
    """Build the graph of `request` with Keras, convert it and keep the result in the cache.

    The graph is a path; where the cache cannot be written, the log says so, and the graph is the
    converted model itself.
    """
    if import_keras().backend.backend() != "tensorflow":
        raise NotConvertible(
            f"the openvino engine converts graphs by TensorFlow, and Keras is set to another "
            f"backend ({keras_setting() or 'by this program'}); unset that for this first run, or "
            f"use --engine keras"
        )
    # OpenVINO brings its own precision when it runs the graph, so one graph serves them all.
    backbone = backbones.build(dataclasses.replace(request, precision="f32"))
    model = _converted(backbone)
    place = _place(request)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        durable.sweep(place.parent)
        _publish(model, place, backbone)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        # OpenVINO raises RuntimeError where the disk is full, TypeError where a path is not text.
        if not os.path.isdir(place):  # else another process was faster
            _log.warning(
                "%s: the converted graph cannot be kept there (%s), so every run converts it anew; "
                "make space there, or HEADSTART_CACHE can name another folder",
                place.parent,
                _reason(error),
            )
    kept = cached(request)
    return dataclasses.replace(backbone, graph=model) if kept is None else kept


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)


def _place(request: Request) -> Path:
    # All that goes into the graph, as far as it is known without building it: what the weights
    # called "imagenet" are is up to the version of Keras.
    more = {"conversion": _CONVERSION, **versions("keras", "tensorflow", "openvino")}
    return cache.folder("graphs") / cache.name(request, more)


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


def _publish(model: Any, place: Path, backbone: Backbone) -> None:
    """Write a graph so that it appears whole, in place of a damaged one if there is one."""
    temporary, damaged = (durable.temporary_beside(place) for _ in range(2))
    try:
        temporary.mkdir()
        _write(model, temporary, backbone)
        if place.exists():
            os.replace(place, damaged)
        os.replace(temporary, place)
    finally:
        for left in (temporary, damaged):
            shutil.rmtree(left, ignore_errors=True)


def _write(model: Any, place: Path, backbone: Backbone) -> None:
    try:
        import_openvino().save_model(model, place / _GRAPH, compress_to_fp16=False)
    except RuntimeError as error:
        # All that it says is "basic_ios::clear", and what it had written is gone already.
        needed = 4 * backbone.graph.count_params() + _GRAPH_BYTES
        if shutil.disk_usage(place).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
    about = json.dumps(
        {
            "weights_digest": backbone.weights_digest,
            "dimension": backbone.dimension,
            "sha256": {name: sha256(place / name) for name in _FILES},
        }
    )
    (place / _ABOUT).write_text(f"{about}\n{_checksum(about)}\n", "ascii")
    for name in (*_FILES, _ABOUT):
        durable.sync(place / name)


def _read(place: Path, request: Request) -> Backbone:
    text, checksum = (place / _ABOUT).read_text("ascii").splitlines()
    _require_same(_ABOUT, _checksum(text), checksum)
    about = json.loads(text)
    for name in _FILES:
        _require_same(name, sha256(place / name), about["sha256"][name])
    return Backbone(place / _GRAPH, about["weights_digest"], request.size, about["dimension"])


def _require_same(name: str, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(f"{name} has another checksum than when it was written")


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()
