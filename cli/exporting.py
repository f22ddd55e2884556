"""A head -> one Keras or ONNX model of backbone and head, which runs without headstart."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import numpy as np

from ..classify.dense import dense_layer
from ..classify.prediction import load_head
from ..features import durable
from ..features.errors import HeadError
from .rebuilding import as_trained

if TYPE_CHECKING:
    from ..classify.prediction import Head

_ALLOWED: Final = 1e-4
"""Largest difference of a probability between the exported model and the way of `predict`."""

_COMPARED: Final = 32
_SEED: Final = 3


@dataclasses.dataclass(frozen=True)
class Exported:
    """What `export_into` wrote.

    Attributes
    ----------
    out : Path
        The model.
    size : int
        Side of the images that it takes, in pixels.
    fit : str
        How they become square.
    labels : list of str
        The classes, in the order of its probabilities.
    compared : int
        Images that went both through the model and the way of `predict`.
    difference : float
        Largest difference of a probability between the two.
    bytes : int
        Size of the file.
    """

    out: Path
    size: int
    fit: str
    labels: list[str]
    compared: int
    difference: float
    bytes: int


def export_into(
    out: Path,
    head_file: str,
    *,
    weights: str | None = None,
    engine: str = "auto",
    trust: bool = False,
) -> Exported:
    """Write backbone, standardisation and head as one model.

    Images go through the written file and through the way of `predict`; unless their probabilities
    agree nothing is left at `out`.

    Parameters
    ----------
    out : Path
        The model, ``.keras`` or ``.onnx``.
    head_file, weights, engine, trust
        As for `predict_into`.

    Raises
    ------
    HeadError
        If the head cannot be one graph, or the graph answers otherwise.
    HeadstartError
        As `fusing.require_writable`, and if backbone and head do not fit.
    """
    from ..extract import fusing
    from ..extract.canary import synthetic_images

    durable.require_target(out)
    fusing.require_writable(out)
    head = load_head(head_file, trust=trust)
    try:
        layer = dense_layer(head.pipeline)
    except HeadError as error:
        raise HeadError(f"{head_file}: its {head.name} head cannot be exported: {error}") from error
    if head.provenance.precision != "f32":
        raise HeadError(
            f"{head_file}: its features were computed in {head.provenance.precision}, which every "
            f"runtime rounds differently, so that the probabilities would differ; extract the "
            f"training images in f32 for a head that can be exported"
        )
    embedding, reference = as_trained(head, head_file, weights, engine)
    click.echo(f"building {embedding.request} ...", err=True)
    reference.require(embedding.provenance, embedding.canary)
    images = synthetic_images(_COMPARED, _SEED, head.provenance.size, head.provenance.fit)
    expected = head.predict(embedding.embed(images)).probabilities
    with tempfile.TemporaryDirectory(prefix=".headstart-", dir=out.parent) as folder:
        written = Path(folder) / out.name
        run = fusing.write(written, embedding.request, layer, _about(head))
        difference = float(np.abs(run(images) - expected).max())
        if not difference <= _ALLOWED:
            reason = ""
            if head.provenance.dtype == "float16":
                reason = "; its features are stored in float16, to which the graph does not round"
            elif engine != "keras":
                reason = "; if the head is so steep that rounding shows, try --engine keras"
            raise HeadError(
                f"{out}: not written, for the exported graph gives other probabilities than "
                f"`headstart predict`: by up to {difference:.2g} on {_COMPARED} test images, at "
                f"most {_ALLOWED:g} is allowed{reason}"
            )
        with durable.replacing(out) as temporary:
            os.replace(written, temporary)
    return Exported(
        out=out,
        size=head.provenance.size,
        fit=head.provenance.fit,
        labels=head.label_names,
        compared=_COMPARED,
        difference=difference,
        bytes=out.stat().st_size,
    )


def _about(head: Head) -> dict[str, Any]:
    """What the file says of itself."""
    return {
        "labels": head.label_names,
        "input": {
            "size": head.provenance.size,
            "fit": head.provenance.fit,
            "resize": head.provenance.resize,
            "pixels": "uint8 RGB, (N, size, size, 3)",
        },
        "head": head.name,
        "accuracy": head.scores.accuracy,
        "basis": head.scores.basis,
        "provenance": dataclasses.asdict(head.provenance),
        "fingerprint": head.provenance.fingerprint,
        "training_digest": head.training_digest,
        "headstart": version("headstart"),
    }
