"""A request -> its graph converted for OpenVINO."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any, Final

from ..backbones.build import Backbone
from ..machine import import_openvino
from .kept import Graphs, NotConvertible

__all__ = ["NotConvertible", "cached", "convert", "kept", "made"]

_GRAPH: Final = "graph.xml"
_GRAPH_BYTES: Final = 1 << 20
"""About as many as a graph takes without its weights."""


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


def _save(model: Any, place: Path, backbone: Backbone) -> None:
    try:
        import_openvino().save_model(model, place / _GRAPH, compress_to_fp16=False)
    except RuntimeError as error:
        # All that it says is "basic_ios::clear", and what it had written is gone already.
        needed = 4 * backbone.graph.count_params() + _GRAPH_BYTES
        if shutil.disk_usage(place).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


_GRAPHS: Final = Graphs(
    engine="openvino",
    files=(_GRAPH, "graph.bin"),
    version=3,
    libraries=("keras", "tensorflow", "openvino"),
    make=_converted,
    save=_save,
)
kept = _GRAPHS.kept
cached = _GRAPHS.cached
convert = _GRAPHS.convert
made = _GRAPHS.made
