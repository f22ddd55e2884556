"""A Keras graph on TensorFlow -> an ONNX graph, for the ONNX Runtime engine and for `export`."""

import contextlib
import importlib
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..machine import import_keras, import_onnxruntime

IMAGES: Final = "images"
"""The one input of the graph: (N, size, size, 3) uint8 RGB."""

BATCH: Final = "N"
"""The name of the dimension that is the number of images."""

ONNX_NEEDS: Final = ("tf2onnx", "onnxruntime")
"""The libraries that write and read back such a graph."""

_OPSET: Final = 18
"""Version of ONNX's operators; every runtime since 2023 has it."""


def converted(model: Any, output: str) -> Any:
    """The graph of a Keras model in inference mode, whose one output is called `output`.

    tf2onnx sees the weights as further inputs, and not as constants, of which it keeps dozens of
    copies: 6.5 GB for Xception's 83 MB. They are put into the graph afterwards, and ONNX Runtime
    computes what depends on them alone.
    """
    import tensorflow as tf

    logging.getLogger("tf2onnx").setLevel(logging.WARNING)
    tf2onnx = importlib.import_module("tf2onnx")
    trainable, others = model.trainable_variables, model.non_trainable_variables
    weights = {f"weight{number}": one for number, one in enumerate((*trainable, *others))}
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, name=IMAGES)]
    signature += [tf.TensorSpec(one.shape, one.dtype, name=name) for name, one in weights.items()]

    def call(images: Any, *values: Any) -> Any:
        known = values[: len(trainable)], values[len(trainable) :]
        return {output: model.stateless_call(*known, images, training=False)[0]}

    function = tf.function(call, input_signature=signature)
    with _without_inner_functions(tf):
        traced = function.get_concrete_function()
    graph, _ = tf2onnx.convert.from_function(
        function,
        input_signature=signature,
        opset=_OPSET,
        custom_op_handlers={"Erfc": (_write_erfc, [])},
    )
    # Among them the mean and variance by which EfficientNet normalises, which are no variables.
    captured = traced.captured_inputs
    names = [tensor.name for tensor in traced.inputs[len(traced.inputs) - len(captured) :]]
    _fill(graph, weights | dict(zip(names, captured, strict=True)))
    return _folded(graph)


def _fill(graph: Any, values: Mapping[str, Any]) -> None:
    """Make constants of all inputs but the images."""
    from_array = importlib.import_module("onnx").numpy_helper.from_array
    to_numpy = import_keras().ops.convert_to_numpy
    inputs = list(graph.graph.input)
    del graph.graph.input[:]
    for one in inputs:
        if one.name == IMAGES:
            graph.graph.input.append(one)
        else:
            graph.graph.initializer.append(from_array(to_numpy(values[one.name]), one.name))
    for one in (*graph.graph.input, *graph.graph.output):
        one.type.tensor_type.shape.dim[0].dim_param = BATCH


def _folded(graph: Any) -> Any:
    """A graph with everything computed that does not depend on the images, for any machine."""
    onnx, runtime = importlib.import_module("onnx"), import_onnxruntime()
    with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
        before, after = (Path(folder, name) for name in ("before.onnx", "after.onnx"))
        onnx.save(graph, str(before))
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(after)
        options.log_severity_level = 4  # it raises what is an error, and the rest is chatter
        runtime.InferenceSession(str(before), options, providers=["CPUExecutionProvider"])
        folded = onnx.load(str(after))
    # It names all sets of operators that it knows, of which other runtimes need not know any.
    used = {node.domain for node in folded.graph.node}
    sets = [one for one in folded.opset_import if one.domain in used]
    del folded.opset_import[:]
    folded.opset_import.extend(sets)
    return folded


@contextlib.contextmanager
def _without_inner_functions(tf: Any) -> Iterator[None]:
    """Trace what functions inside a function do in place of them.

    Keras has grouped convolutions (ConvNeXt) compiled by XLA in functions of their own, which are
    never inlined later, and which tf2onnx does not know.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _write_erfc(graph: Any, node: Any, name: str, _: Any) -> None:
    """erfc(x) = 1 - erf(x): TensorFlow's gelu asks for it, and ONNX has erf alone."""
    (output,) = node.output
    shapes, dtypes = [graph.get_shape(output)], [graph.get_dtype(output)]
    graph.remove_node(name)
    erf = graph.make_node("Erf", node.input, shapes=shapes, dtypes=dtypes)
    one = graph.make_const(f"{name}_one", np.array(1, np.float32))
    inputs = [one.output[0], erf.output[0]]
    graph.make_node("Sub", inputs, name=name, outputs=[output], shapes=shapes, dtypes=dtypes)
