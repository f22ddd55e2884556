"""The fast engine on a CPU: the frozen graph, converted once, through OpenVINO's streams."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ..libraries import import_openvino, versions
from .engine import Engine, Tuning

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..backbones import Backbone
    from .engine import Run

_PIXELS_A_CALL: Final = 110_000
_LARGEST_BATCH: Final = 8


class OpenVINOEngine(Engine):
    """Runs a converted graph on the CPU; TensorFlow is not needed.

    Parameters
    ----------
    backbone : Backbone
        Its graph is the path of an OpenVINO model, see `graphs`.
    precision : {"f32", "bf16"}
        Arithmetic; without a word OpenVINO computes in bf16 wherever the CPU can.
    tuning : Tuning, optional
        By default one image a call at 299 pixels, two at 224, up to eight at small sizes: more do
        not fit into the caches of a core (MobileNetV2 at 224 pixels in f32: 270 images a second by
        ones and twos, 230 by fours), fewer are calls without need. As many streams as OpenVINO
        thinks best: one a core on small machines.
    """

    name: ClassVar[str] = "openvino"

    def __init__(self, backbone: Backbone, precision: str, tuning: Tuning | None = None) -> None:
        tuning = tuning or Tuning()
        self._core = import_openvino().Core()
        self._model = self._core.read_model(backbone.graph)
        self._settings: dict[str, Any] = {
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
        # One more than can run, so that no stream waits for its next images: 270 images a second
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
    """Have one thread look at a tensor first.

    pybind11 initialises its view of NumPy on the first look at a tensor, in a C++ static that lets
    the GIL go meanwhile: of two threads that look first at the same time, each waits for what the
    other holds. Without this 3 of 14 processes hung (OpenVINO 2026.4.1, Python 3.11).
    """
    request = compiled.create_infer_request()
    _ = request.get_input_tensor(0).data, request.get_output_tensor(0).data
