"""A request -> vectors of decoded images; the backbone is loaded when the first one is needed."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import platform
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ..features.errors import BackboneError
from ..features.provenance import Provenance, require_same_fields
from ..features.units import Origin
from . import engines
from .canary import canary_images
from .engines.engine import Tuning
from .libraries import versions
from .reference import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from ..features.known import Known
    from .backbones import Backbone
    from .engines.engine import Engine
    from .request import Request


class Embedding:
    """One way of turning images into vectors, loaded lazily.

    Loading imports TensorFlow and builds a model, or reads a converted one: seconds that a run with
    nothing new to embed never spends.

    Parameters
    ----------
    request : Request
        The settings.
    engine : {"auto", "keras", "openvino"}, default="auto"
        What runs the graph; `engines.load` says which ``"auto"`` takes.
    tuning : Tuning, optional
        How it uses the machine.

    Attributes
    ----------
    load_seconds : float
        What loading cost; 0 as long as nothing was loaded.

    Raises
    ------
    WrongUsage
        If there is no such engine, or it has no such setting.
    MissingExtra
        If its library is not installed.
    """

    def __init__(
        self, request: Request, engine: str = engines.AUTO, tuning: Tuning | None = None
    ) -> None:
        self.request = request
        self.tuning = tuning or Tuning()
        self.load_seconds = 0.0
        self._engine = engine
        engines.require_usable(engine, self.tuning)

    @functools.cached_property
    def _loaded(self) -> tuple[Backbone, Engine]:
        started = time.perf_counter()
        backbone, engine = engines.load(self.request, self._engine, self.tuning)
        self.load_seconds = time.perf_counter() - started
        return backbone, engine

    @property
    def engine(self) -> Engine:
        """What runs the graph."""
        return self._loaded[1]

    @functools.cached_property
    def provenance(self) -> Provenance:
        """Provenance of the vectors."""
        backbone, _ = self._loaded
        return self.request.provenance(backbone.weights_digest, backbone.dimension)

    @functools.cached_property
    def environment(self) -> dict[str, Any]:
        """Machine, libraries and origin of the weights; recorded, not compared."""
        return {
            "weights": self.request.weights.record(),
            "system": platform.platform(),
            "python": platform.python_version(),
            **versions("headstart", "numpy", "pillow", "h5py"),
            **self.engine.environment(),
        }

    @functools.cached_property
    def canary(self) -> NDArray[np.floating]:
        """Vectors of the test images, (C, D)."""
        return self.stored(np.concatenate([call.result() for call in self.canary_calls]))

    @functools.cached_property
    def canary_calls(self) -> list[Future[NDArray[np.float32]]]:
        """The calls that compute `canary`; to ask for them early saves waiting for it later."""
        return self.engine.submit_all(canary_images(self.request.size, self.request.fit))

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

    def unloaded(self, share: int) -> Embedding:
        """The same with nothing loaded, for one of several processes: `share` cores are its own."""
        tuning = dataclasses.replace(self.tuning, share=share)
        return Embedding(self.request, self._engine, tuning)

    def submit(self, pixels: Mapping[bytes, NDArray[np.uint8]]) -> Future[NDArray[np.float32]]:
        """Have decoded images embedded; `stored` makes the result what `embed` would give."""
        images = list(pixels.values())
        # A view where one image is a call: copying it would cost a tenth of decoding it.
        return self.engine.submit(np.stack(images) if len(images) > 1 else images[0][None])

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Vectors of decoded images in the dtype they are stored in, (n, D).

        Raises
        ------
        BackboneError
            If a vector is not finite: nobody could train on it.
        """
        return self.stored(self.engine.embed(pixels))

    def stored(self, computed: NDArray[np.float32]) -> NDArray[np.floating]:
        """Vectors in the dtype they are stored in; `embed` says what is refused."""
        vectors = computed.astype(self.request.dtype)
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
            remedy=known.remedy,
        )
        if not self.request.weights.same(known.origin.environment.get("weights", {})):
            self.require_same(Reference.to(known.origin, known.out, known.remedy))

    def require_same(self, reference: Reference | None) -> None:
        """Load, and refuse to go on beside vectors of other weights or another way of computing.

        Raises
        ------
        ProvenanceMismatch
            See `Reference.require`.
        """
        if reference is not None:
            reference.require(self.provenance, self.canary)
