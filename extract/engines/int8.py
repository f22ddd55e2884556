"""A converted graph and some images -> its quantised twin; and reading that back.

Quantising takes nncf, a minute or more and images; reading the result takes OpenVINO alone.
"""

import contextlib
import dataclasses
import importlib
import io
import logging
import os
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...features.durable.remote import copies
from ...features.durable.remote.url import is_remote
from ...features.errors import (
    BackboneError,
    FeatureFileError,
    MissingExtra,
    WrongUsage,
    first_line,
    install_command,
    reinstall_command,
)
from ...features.journal import graphs, places
from ...features.journal.outputs import Output
from ...features.origin import INT8
from ...features.provenance.graph import Graph
from ..backbones.build import Backbone
from ..backbones.request import Request
from ..machine import import_openvino, installed, versions
from . import converted

QUANTISATION: Final = 1
"""Raise it by one in the commit that changes how graphs are quantised."""

LEAST_COSINE: Final = 0.9
"""Of vectors in int8 to those in f32, on average over images that did not calibrate.

Heads on 600 photographs of cats and dogs (MobileNetV2 with ImageNet weights at 96 pixels, quantised
by 1 to 150 of them and in other ways) were right in 93.3% in f32, in 92.2 to 94.4% where the cosine
was 0.92 or more, in 93.2% at 0.87, 90.1% at 0.73 and 87.7% at 0.54.
"""

_GRAPH: Final = "graph.xml"

Pixels = NDArray[np.uint8]


def load(request: Request) -> Backbone:
    """The quantised graph that `request` names, from the feature file that it lies in.

    Raises
    ------
    BackboneError
        If it is missing, damaged, or no graph that this version of OpenVINO reads.
    WrongUsage
        If it is of another backbone or size.
    """
    graph, source = graph_of(request), request.weights
    made = graph.about.get("backbone"), graph.about.get("size")
    if made != (request.architecture.name, request.size):
        raise WrongUsage(
            f"weights {source.path}: its quantised backbone is {made[0]} at {made[1]} pixels, not "
            f"{request.architecture.name} at {request.size}; add --backbone {made[0]} --size "
            f"{made[1]}"
        )
    try:
        model = import_openvino().Core().read_model(model=graph.xml, weights=graph.constants)
        (images,), (vectors,) = model.inputs, model.outputs
        shape = [side.get_length() for side in list(images.partial_shape)[1:]]
        dimension = vectors.partial_shape[1].get_length()
        if shape != [request.size, request.size, 3] or len(vectors.partial_shape) != 2:
            raise ValueError("its input or output has another shape")
        types = [one.element_type.get_type_name() for one in (images, vectors)]
        if types != ["u8", "f32"]:
            raise ValueError(f"it makes {types[1]} of {types[0]}")
    except (RuntimeError, ValueError, IndexError) as error:
        raise BackboneError(
            f"{source.path}: OpenVINO cannot read the quantised backbone in it: "
            f"{first_line(error)}; it was made by OpenVINO {graph.about.get('openvino')}: install "
            f"that version, or make the file again with --fresh"
        ) from error
    return Backbone(model, graph.digest, request.size, dimension)


def graph_of(request: Request) -> Graph:
    """The quantised graph that `request` names.

    Raises
    ------
    BackboneError
        If it is missing or damaged.
    """
    request.require_calibrated()
    place, digest = str(request.weights.path), str(request.weights.sha256)
    try:
        if is_remote(place):
            return _graph_at(Output(place, far=True), digest)
        return graphs.find(Path(place), digest)
    except FeatureFileError as error:  # of the backbone, not of the file that is to be written
        raise BackboneError(str(error)) from error


def _graph_at(output: Output, digest: str) -> Graph:
    """That of a file at a URL, or of the runs that are at work on it."""
    for out in output.mirrors():  # of this machine
        with contextlib.suppress(FeatureFileError):
            return graphs.find(out, digest)
    try:
        return graphs.find(copies.local(output.name), digest)
    except FeatureFileError:
        with contextlib.suppress(FeatureFileError):  # whoever reads the file need not see units
            if (beside := places.graph(output.server, digest)) is not None:
                return beside
        raise


def require_nncf() -> None:
    """Refuse to quantise where nncf is not installed."""
    if not installed("nncf"):
        raise MissingExtra(
            f"precision {INT8!r}: nncf, which quantises a backbone, is not installed; install it "
            f"with: {install_command(INT8)}"
        )


def quantise(
    request: Request, images: Sequence[Pixels], others: Sequence[Pixels], calibration: str
) -> Graph:
    """Quantise the backbone of `request` by decoded images.

    Parameters
    ----------
    request : Request
        With the weights as they are before.
    images, others : sequence of ndarray
        (size, size, 3) uint8 RGB: those that calibrate it, and those on which its vectors are
        compared with the vectors in float32.
    calibration : str
        What the images are known by.

    Raises
    ------
    BackboneError
        If it cannot be quantised, or its vectors are too far from those in float32.
    """
    whole = dataclasses.replace(request, precision="f32")
    backbone = converted.made(whole)
    openvino, nncf = import_openvino(), _import_nncf()
    core = openvino.Core()
    of_file = isinstance(backbone.graph, str | os.PathLike)
    model = core.read_model(backbone.graph) if of_file else backbone.graph
    before = _vectors(core, model, others)
    try:
        with _quiet():
            data = nncf.Dataset([image[None] for image in images])
            quantised = nncf.quantize(model, data, subset_size=len(images))
    except Exception as error:  # nncf and OpenVINO have no base of their errors in common
        raise BackboneError(
            f"{request.architecture.name} cannot be quantised: {first_line(error)}; use "
            f"--precision bf16 or f32"
        ) from error
    xml, constants = _serialised(openvino, quantised)
    again = core.read_model(model=xml, weights=constants)
    cosines = _cosines(_vectors(core, again, others), before)
    if not cosines.mean() >= LEAST_COSINE:
        raise BackboneError(
            f"{request.architecture.name} with {request.weights} weights does not stand int8: its "
            f"vectors of {len(others)} images have a mean cosine of {cosines.mean():.3f} to those "
            f"in f32, at least {LEAST_COSINE} is asked for; use --precision bf16 or f32, or more "
            f"and other images to calibrate with"
        )
    about = {
        "backbone": request.architecture.name,
        "size": request.size,
        "weights": request.weights.record(),
        "weights_digest": backbone.weights_digest,
        "images": len(images),
        "others": len(others),
        "calibration": calibration,
        "cosine": round(float(cosines.mean()), 5),
        "least": round(float(cosines.min()), 5),
        **versions("nncf", "openvino"),
    }
    return Graph(xml, constants, about)


def _import_nncf() -> Any:
    require_nncf()
    kind = logging.getLoggerClass()
    try:
        return importlib.import_module("nncf")
    except Exception as error:
        raise BackboneError(
            f"nncf is installed and cannot be imported: {first_line(error)}; install it again "
            f"with: {reinstall_command('nncf')}"
        ) from error
    finally:
        logging.setLoggerClass(kind)  # it makes one of its own that of the whole process


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep nncf from telling standard output, which is for results, how far it is."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _serialised(openvino: Any, model: Any) -> tuple[bytes, bytes]:
    """The graph, the same bytes for the same graph, and its numbers.

    Names are numbered through a process, and versions stand beside them: neither changes a vector.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _GRAPH
        openvino.save_model(model, path, compress_to_fp16=False)
        root = ElementTree.parse(path).getroot()
        constants = path.with_suffix(".bin").read_bytes()
    root.set("name", "backbone")
    for parent in list(root.iter()):
        for noted in parent.findall("rt_info"):
            parent.remove(noted)
        parent.text, parent.tail = (parent.text or "").strip() or None, None
    for layer in root.iter("layer"):
        layer.set("name", f"{layer.get('type')}_{layer.get('id')}")
    for port in root.iter("port"):
        port.attrib.pop("names", None)
    return ElementTree.tostring(root), constants


def _vectors(core: Any, model: Any, images: Sequence[Pixels]) -> NDArray[np.float32]:
    # By its shape, as the engine has it: left open, an int8 graph gives other vectors (a cosine of
    # 0.2 to these with random weights of MobileNetV2, OpenVINO 2026.4.1 on AMX).
    model = model.clone()
    model.reshape([1, *images[0].shape])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.concatenate([compiled(image[None])[0] for image in images])


def _cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.floating]:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: NDArray[np.floating] = (a * b).sum(axis=1) / np.maximum(lengths, 1e-30)
    return cosines
