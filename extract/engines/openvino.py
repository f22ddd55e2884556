"""The fast engine on a CPU: the frozen graph, converted once, through OpenVINO's streams."""

from __future__ import annotations

import os
import threading
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ..backbones.build import Backbone
from ..backbones.request import Request
from ..machine import import_openvino, installed, versions
from . import converted
from .engine import Engine, Run, Tuning

_PIXELS_A_CALL: Final = 110_000
_LARGEST_BATCH: Final = 8


def available() -> bool:
    """Whether OpenVINO is installed."""
    return installed("openvino")


def load(request: Request, tuning: Tuning) -> tuple[Backbone, OpenVINOEngine]:
    """Compile the converted graph of `request`; only where it is not in the cache, make it."""
    backbone = converted.cached(request) or converted.convert(request)
    return backbone, OpenVINOEngine(backbone, request.precision, tuning)


class OpenVINOEngine(Engine):
    """Runs a converted graph, an OpenVINO model or the path of one, on the CPU.

    By default it takes one image a call at 299 pixels, two at 224, up to eight at small sizes: more
    do not fit into the caches of a core (MobileNetV2 at 224 pixels in f32: 270 images per second by
    ones and twos, 230 by fours), fewer are calls without need. It uses as many streams as OpenVINO
    thinks best: one per core on small machines.
    """

    name: ClassVar[str] = "openvino"

    def __init__(self, backbone: Backbone, precision: str, tuning: Tuning | None = None) -> None:
        tuning = tuning or Tuning()
        self._core = import_openvino().Core()
        graph = backbone.graph
        of_file = isinstance(graph, str | os.PathLike)
        self._model = self._core.read_model(graph) if of_file else graph
        self._settings: dict[str, Any] = {
            # Left to itself OpenVINO computes in bf16 wherever the CPU can.
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "THROUGHPUT",
            # Threads tied to cores would keep decoding, and other workers, from sharing them.
            "ENABLE_CPU_PINNING": False,
        }
        if tuning.streams is not None:
            self._settings["NUM_STREAMS"] = tuning.streams
        if threads := tuning.threads or tuning.share:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        fitting = _PIXELS_A_CALL // backbone.size**2
        super().__init__(backbone, tuning.batch or min(_LARGEST_BATCH, max(1, fitting)))

    def environment(self) -> dict[str, Any]:
        """OpenVINO, and the processor as it names it."""
        return {
            "engine": self.name,
            "backend": self.name,
            "device": self._core.get_property("CPU", "FULL_DEVICE_NAME"),
            **versions("openvino", "keras"),
        }

    def _compile(self, batch: int) -> Run:
        model = self._model.clone()
        model.reshape([batch, *self._shape])
        compiled = self._core.compile_model(model, "CPU", self._settings)
        # One more than can run, so that no stream waits for its next images: 270 images per second
        # against 240 (MobileNetV2 at 224 pixels by ones, two cores).
        self.calls = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + 1
        _initialise_binding(compiled)
        mine = threading.local()

        def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            if not hasattr(mine, "request"):
                mine.request = compiled.create_infer_request()
            vectors: NDArray[np.float32] = mine.request.infer({0: images}, share_outputs=True)[0]
            return vectors

        return run


def _initialise_binding(compiled: Any) -> None:
    """Have one thread access a tensor first.

    pybind11 initialises its view of NumPy on the first access to a tensor, in a C++ static that
    releases the GIL meanwhile: if two threads come first at the same time, each waits for what the
    other holds. Without this 3 of 14 processes hung (OpenVINO 2026.4.1, Python 3.11).
    """
    request = compiled.create_infer_request()
    _ = request.get_input_tensor(0).data, request.get_output_tensor(0).data
