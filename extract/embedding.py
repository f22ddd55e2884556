"""A request -> vectors of decoded images; the backbone is loaded when the first one is needed."""

import dataclasses
import datetime
import os
import platform
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.child import once
from ..features.errors import BackboneError
from ..features.origin import Origin
from ..features.provenance import Provenance
from . import engines
from .backbones.build import Backbone
from .backbones.request import Request
from .backbones.weights import WeightsSource
from .engines.engine import Engine, Tuning
from .images.synthetic import canary_images
from .machine import versions


class Embedding:
    """One way of turning images into vectors, loaded lazily.

    Loading imports TensorFlow and builds a model, or reads a converted one: seconds that a run with
    nothing new to embed never spends. `load_seconds` is what it took, with quantising, 0 before.
    `must_fit` made vectors that those computed here have to fit, wherever they go: those of a head.
    """

    def __init__(
        self, request: Request, engine: str = engines.AUTO, tuning: Tuning | None = None
    ) -> None:
        self.request = request
        self.tuning = tuning or Tuning()
        self.load_seconds = 0.0
        self.must_fit: Origin | None = None
        self._engine = engine
        engines.require_usable(engine, self.tuning, request.precision)

    @classmethod
    def of(
        cls,
        origin: Origin,
        *,
        weights: str | os.PathLike[str] | None = None,
        engine: str = engines.AUTO,
    ) -> "Embedding":
        """The embedding that made `origin`, not loaded yet; `weights` says where they are now."""
        made = origin.of_images("embed images, or be exported")
        recorded = origin.environment.get("weights", {})
        if weights is None and not recorded:
            raise BackboneError(
                f"{origin.name}: it is not recorded where the weights of its backbone came from; "
                f"name them by --weights FILE"
            )
        source = (
            WeightsSource.recorded(recorded) if weights is None else WeightsSource.named(weights)
        )
        request = Request.repeating(made, source)
        request.require_calibrated()
        origin.require_declared(request.declared())
        embedding = cls(request, engine)
        embedding.must_fit = origin
        return embedding

    def require_fit(self, origin: Origin) -> None:
        """Refuse to compute for a file of `origin` what does not fit; if possible, unloaded."""
        origin.require_declared(self.request.declared())
        if not self.request.weights.same(origin.environment.get("weights", {})):
            origin.require(self.origin())

    @once
    def _loaded(self) -> tuple[Backbone, Engine]:
        started = time.perf_counter()
        backbone, engine = engines.load(self.request, self._engine, self.tuning)
        self.load_seconds += time.perf_counter() - started
        return backbone, engine

    @property
    def engine(self) -> Engine:
        """What runs the graph."""
        return self._loaded[1]

    @once
    def provenance(self) -> Provenance:
        """Provenance of the vectors."""
        backbone, _ = self._loaded
        return self.request.provenance(backbone.weights_digest, backbone.dimension)

    @once
    def environment(self) -> dict[str, Any]:
        """Machine, libraries and where the weights came from; recorded, not compared."""
        return {
            "weights": self.request.weights.record(),
            "system": platform.platform(),
            "python": platform.python_version(),
            **versions("headstart", "numpy", "pillow", "h5py"),
            **self.engine.environment(),
        }

    @once
    def canary(self) -> NDArray[np.floating]:
        """Vectors of the test images, (C, D)."""
        return self.stored(np.concatenate([call.result() for call in self.canary_calls]))

    @once
    def canary_calls(self) -> list[Future[NDArray[np.float32]]]:
        """The calls that compute `canary`; to ask for them early saves waiting for it later."""
        return self.engine.submit_all(canary_images(self.request.size, self.request.fit))

    def origin(self, source: str = "") -> Origin:
        """What vectors of `source` come from that are embedded here and now.

        It is refused if it does not fit `must_fit`.
        """
        environment = self.environment | {
            "source": source,
            "extracted": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        made = Origin(self.provenance, environment, self.canary)
        if self.must_fit is not None:
            self.must_fit.require(made)
        return made

    def require_here(self) -> None:
        """Refuse, unloaded, a machine without the engine or the weights: one of a cluster."""
        engines.require_usable(self._engine, self.tuning, self.request.precision)
        WeightsSource.recorded(self.request.weights.record())

    def unloaded(self, share: int) -> "Embedding":
        """The same with nothing loaded, for one of several processes: `share` cores are its own."""
        tuning = dataclasses.replace(self.tuning, share=share)
        other = Embedding(self.request, self._engine, tuning)
        other.must_fit = self.must_fit
        return other

    def by(self, weights: WeightsSource) -> "Embedding":
        """The same by other weights, with nothing loaded."""
        request = dataclasses.replace(self.request, weights=weights)
        other = Embedding(request, self._engine, self.tuning)
        other.must_fit = self.must_fit
        return other

    def submit(self, images: Sequence[NDArray[np.uint8]]) -> Future[NDArray[np.float32]]:
        """Have decoded images embedded; `stored` makes the result what `embed` would give."""
        # A view where one image is a call: copying it would cost a tenth of decoding it.
        return self.engine.submit(np.stack(images) if len(images) > 1 else images[0][None])

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Vectors of decoded images in the dtype they are stored in, (n, D)."""
        return self.stored(self.engine.embed(pixels))

    def stored(self, computed: NDArray[np.float32]) -> NDArray[np.floating]:
        """Vectors in the dtype they are stored in."""
        vectors = computed.astype(self.request.dtype)
        if not np.isfinite(vectors).all():
            raise BackboneError(
                f"{self.request.architecture.name} with weights {self.request.weights} gives "
                f"vectors that are not finite as {self.request.dtype}; use "
                + ("--dtype float32" if self.request.dtype == "float16" else "other weights")
            )
        return vectors
