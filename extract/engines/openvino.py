"""The fast engine on a CPU: the frozen graph, converted once, through OpenVINO's streams."""

from __future__ import annotations

import os
import threading
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...features.origin import INT8
from ..backbones.build import Backbone
from ..backbones.request import Request
from ..machine import import_openvino, installed, versions
from . import converted, int8
from .engine import Engine, Run, Tuning, few_a_call


def available() -> bool:
    """Whether OpenVINO is installed."""
    return installed("openvino")


def devices() -> list[str]:
    """The processor, the one device that it is used on."""
    import_openvino()
    return ["CPU"]


def ready(request: Request) -> bool:
    """Whether `load` needs no TensorFlow: the graph is in the cache, or one that is quantised."""
    return request.precision == INT8 or converted.kept(request)


def load(request: Request, tuning: Tuning) -> tuple[Backbone, OpenVINOEngine]:
    """Compile the converted graph of `request`; only where it is not in the cache, make it.

    In int8 it is the quantised one, which is made by `calibration` alone.
    """
    backbone = int8.load(request) if request.precision == INT8 else converted.made(request)
    return backbone, OpenVINOEngine(backbone, request.precision, tuning)


class OpenVINOEngine(Engine):
    """Runs a converted graph, an OpenVINO model or the path of one, on the CPU.

    By default a call takes few images (`few_a_call`), and there are as many streams as OpenVINO
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
            # What is not quantised of an int8 graph is computed as it was calibrated.
            "INFERENCE_PRECISION_HINT": "f32" if precision == INT8 else precision,
            "PERFORMANCE_HINT": "THROUGHPUT",
            # Threads tied to cores would keep decoding, and other workers, from sharing them.
            "ENABLE_CPU_PINNING": False,
        }
        if tuning.streams is not None:
            self._settings["NUM_STREAMS"] = tuning.streams
        if threads := tuning.threads or tuning.share:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        super().__init__(backbone, tuning.batch or few_a_call(backbone.size))

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
