"""A request -> vectors of decoded images; the backbone is loaded when the first one is needed."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..features.canary import require_agreement
from ..features.errors import BackboneError
from ..features.provenance import Provenance, require_same_fields
from ..features.units import Origin
from .canary import canary_images

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from ..features.known import Known
    from .backbones import Backbone
    from .engines.keras import KerasEngine
    from .request import Request

_REMEDY: Final = "Choose another output, or replace this one with --fresh."


class Embedding:
    """One way of turning images into vectors, loaded lazily.

    Loading imports TensorFlow and builds a model: seconds that a run with nothing new to embed
    never spends.

    Parameters
    ----------
    request : Request
        The settings.

    Attributes
    ----------
    load_seconds : float
        What loading cost; 0 as long as nothing was loaded.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.load_seconds = 0.0

    @functools.cached_property
    def _loaded(self) -> tuple[Backbone, KerasEngine]:
        from .backbones import build
        from .engines.keras import KerasEngine

        started = time.perf_counter()
        backbone = build(self.request)
        engine = KerasEngine(backbone)
        self.load_seconds = time.perf_counter() - started
        return backbone, engine

    @property
    def batch(self) -> int:
        """Images that the engine takes at once."""
        return self._loaded[1].batch

    @functools.cached_property
    def provenance(self) -> Provenance:
        """Provenance of the vectors."""
        backbone, _ = self._loaded
        return self.request.provenance(backbone.weights_digest, backbone.dimension)

    @functools.cached_property
    def environment(self) -> dict[str, Any]:
        """Machine, libraries and origin of the weights; recorded, not compared."""
        from .backbones import environment

        return environment(self.request)

    @functools.cached_property
    def canary(self) -> NDArray[np.floating]:
        """Vectors of the test images, (C, D)."""
        return self.embed(canary_images(self.request.size, self.request.fit))

    def origin(self, source: str, canary: NDArray[np.floating] | None = None) -> Origin:
        """What the units of vectors embedded here and now carry.

        Parameters
        ----------
        source : str
            Where the images come from.
        canary : ndarray, optional
            The one that came with the vectors they are to join.
        """
        environment = self.environment | {
            "source": source,
            "extracted": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        return Origin(self.provenance, environment, self.canary if canary is None else canary)

    def unloaded(self) -> Embedding:
        """The same with nothing loaded, so that it can be sent to another process."""
        return Embedding(self.request)

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Vectors of decoded images in the dtype they are stored in, (n, D).

        Raises
        ------
        BackboneError
            If a vector is not finite: nobody could train on it.
        """
        vectors = self._loaded[1].embed(pixels).astype(self.request.dtype)
        if not np.isfinite(vectors).all():
            raise BackboneError(
                f"{self.request.architecture.name} with weights {self.request.weights} gives "
                f"vectors that are not finite as {self.request.dtype}; use "
                + ("--dtype float32" if self.request.dtype == "float16" else "other weights")
            )
        return vectors

    def embed_contents(
        self, pixels: Mapping[bytes, NDArray[np.uint8]]
    ) -> dict[bytes, NDArray[np.floating]]:
        """Vectors of decoded images by digest, as `embed` makes them; at least one image."""
        vectors = self.embed(np.stack(list(pixels.values())))
        return dict(zip(pixels, vectors, strict=True))

    def require_fit(self, known: Known) -> None:
        """Refuse to add to vectors that were made differently, without loading if possible.

        Raises
        ------
        ProvenanceMismatch
            Naming the fields that differ.
        """
        if known.origin is None:
            return
        require_same_fields(
            dataclasses.asdict(known.origin.provenance),
            self.request.declared(),
            this=str(known.out),
            that="this run",
            remedy=_REMEDY,
        )
        if not self.request.weights.same(known.origin.environment.get("weights", {})):
            self.require_same_as(known.origin, known.out)

    def require_same_as(self, known: Origin, out: Path) -> None:
        """Load, and refuse to add to vectors that come out differently here; see `require_same`."""
        self.require_same(known.provenance, known.canary, that=str(out), remedy=_REMEDY)

    def require_same(
        self,
        provenance: Provenance,
        canary: NDArray[np.floating],
        *,
        that: str,
        remedy: str,
    ) -> None:
        """Load, and refuse to go on beside vectors of other weights or another way of computing.

        Parameters
        ----------
        provenance, canary
            What came with those vectors.
        that, remedy : str
            Whose they are, and what the user can do, for the message.

        Raises
        ------
        ProvenanceMismatch
            Naming the fields that differ, or by how much the canaries disagree.
        """
        self.provenance.require_same(provenance, this="this run", that=that, remedy=remedy)
        require_agreement(
            self.canary, canary, this="this machine", that=f"where {that} was made", remedy=remedy
        )
