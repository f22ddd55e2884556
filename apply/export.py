"""A head -> one Keras or ONNX model of backbone and head, which runs without headstart."""

from __future__ import annotations

import dataclasses
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..extract.backbones import fused
from ..extract.embedding import Embedding
from ..extract.engines import AUTO, KERAS
from ..extract.images.synthetic import synthetic_images
from ..features import durable
from ..features.errors import HeadError, say
from ..features.origin import INT8
from ..features.provenance import Provenance
from .predict import given

if TYPE_CHECKING:
    from ..classify.head import Head
    from .dense import DenseLayer

_ALLOWED: Final = 1e-4
"""Largest difference of a probability between the exported model and the way of `predict`."""

_COMPARED: Final = 32
_SEED: Final = 3


@dataclasses.dataclass(frozen=True)
class Exported:
    """What `export` wrote."""

    out: Path
    size: int
    """Side of the images that it takes, in pixels."""
    fit: str
    """How they become square."""
    labels: list[str]
    """The classes, in the order of its probabilities."""
    compared: int
    """Images that went both through the model and the way of `predict`."""
    difference: float
    """Largest difference of a probability between the two."""
    bytes: int
    """Size of the file."""


def export(
    head: Head | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    engine: str = AUTO,
    trust: bool = False,
    progress: bool = False,
) -> Exported:
    """Write backbone, standardisation and head as one model: RGB images in, probabilities out.

    Images go through the written file and through the way of `predict`; unless their probabilities
    agree within 0.0001, nothing is left at `out`.

    Parameters
    ----------
    head : Head or path
        A trained head, or the file that one was saved in.
    out : path
        The model: ``.keras`` is a plain Keras model, ``.onnx`` a graph for onnxruntime.
    weights : path, optional
    engine : str, default="auto"
    trust, progress : bool, default=False
        As for `predict`.

    Raises
    ------
    HeadError
        If the head cannot be one graph, or the graph gives other probabilities.
    WrongUsage
        If the name ends in neither ``.keras`` nor ``.onnx``.
    MissingExtra
        If the libraries for it are not installed.
    HeadstartError
        If backbone and head do not fit, or `out` cannot be written.
    """
    out = Path(out)
    durable.require_target(out)
    trained, origin = given(head, trust=trust)
    provenance = origin.of_images("be one model with a backbone")
    _require_f32(provenance, origin.name)  # before a library is loaded that writes models
    fused.require_writable(out)
    layer = _layer(trained, origin.name)
    embedding = Embedding.of(origin, weights=weights, engine=engine)
    if progress:
        say(f"building {embedding.request} ...")
    embedding.origin()  # refused if it does not fit the head
    images = synthetic_images(_COMPARED, _SEED, provenance.size, provenance.fit)
    expected = trained.predict(embedding.embed(images)).probabilities
    # A name that every library takes, whatever that of `out` is.
    with durable.written(out) as temporary, durable.folder_beside(out) as folder:
        written = folder / f"model{out.suffix.lower()}"
        unit = {} if layer.before is None else {"before": layer.before}
        model = fused.write(written, embedding.request, layer, _about(trained, provenance), **unit)
        difference = float(np.abs(model(images) - expected).max())
        if not difference <= _ALLOWED:
            reason = ""
            if provenance.dtype == "float16":
                reason = "; its features are stored in float16, to which the graph does not round"
            elif engine != KERAS:
                reason = "; if the head is so steep that rounding shows, try --engine keras"
            raise HeadError(
                f"{out}: not written, because the exported graph gives other probabilities than "
                f"`headstart predict`: by up to {difference:.2g} on {_COMPARED} test images, at "
                f"most {_ALLOWED:g} is allowed{reason}"
            )
        os.replace(written, temporary)
    return Exported(
        out=out,
        size=provenance.size,
        fit=provenance.fit,
        labels=trained.label_names,
        compared=_COMPARED,
        difference=difference,
        bytes=out.stat().st_size,
    )


def _layer(head: Head, name: str) -> DenseLayer:
    from .dense import dense_layer

    try:
        layer = dense_layer(head.pipeline)
    except HeadError as error:
        raise HeadError(f"{name}: its {head.name} head cannot be exported: {error}") from error
    if head.tta:
        raise HeadError(
            f"{name}: its scores are of the mean over views of an image (--tta), and a graph sees "
            f"an image once; train the head again without --tta to export it"
        )
    return layer


def _require_f32(provenance: Provenance, name: str) -> None:
    precision = provenance.precision
    if precision == "f32":
        return
    why = "which every runtime rounds differently, so that the probabilities would differ"
    if precision == INT8:
        why = "by a quantised backbone of OpenVINO, which is no Keras or ONNX model"
    raise HeadError(
        f"{name}: its features were computed in {precision}, {why}; extract the training images in "
        f"f32 for a head that can be exported"
    )


def _about(head: Head, provenance: Provenance) -> dict[str, Any]:
    """What the file says of itself."""
    return {
        "labels": head.label_names,
        "input": {
            "size": provenance.size,
            "fit": provenance.fit,
            "resize": provenance.resize,
            "pixels": "uint8 RGB, (N, size, size, 3)",
        },
        "head": head.name,
        "accuracy": head.scores.accuracy,
        "basis": head.scores.basis,
        "provenance": dataclasses.asdict(provenance),
        "fingerprint": provenance.fingerprint,
        "training_digest": head.training_digest,
        "headstart": version("headstart"),
    }
