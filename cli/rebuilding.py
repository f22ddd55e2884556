"""A head -> what embeds images as the head's own were embedded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..classify.prediction import Head
    from ..extract.embedding import Embedding
    from ..extract.reference import Reference


def as_trained(
    head: Head, head_file: str, weights: str | None, engine: str
) -> tuple[Embedding, Reference]:
    """The embedding that a head was trained on, not loaded yet, and what proves that it is.

    Parameters
    ----------
    head : Head
        Its provenance says backbone, size, fit and precision.
    head_file : str
        Where it is, for messages.
    weights : str or None
        Where the backbone's weights are now; by default where they were.
    engine : str
        What is to run the backbone.

    Raises
    ------
    ProvenanceMismatch
        If this headstart decodes or normalises otherwise than the one that made those features.
    BackboneError
        If the weights are no longer where they were.
    WrongUsage
        If they are not where `weights` says.
    """
    from ..extract.embedding import Embedding
    from ..extract.reference import Reference
    from ..extract.request import Request
    from ..extract.weights import WeightsSource

    origin = (
        WeightsSource.recorded(head.environment["weights"])
        if weights is None
        else WeightsSource.named(weights)
    )
    reference = Reference(
        head.provenance,
        head.canary,
        head_file,
        "Use the backbone weights that the head was trained with (--weights FILE).",
        str(head.environment.get("engine", "")),
    )
    request = Request.repeating(head.provenance, origin)
    reference.require_declared(request.declared())
    return Embedding(request, engine), reference
