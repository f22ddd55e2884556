"""The engine where OpenVINO is slow or absent: the frozen graph, converted once, by ONNX Runtime.

It also has the devices that Keras has not: by CoreML those of Apple, by DirectML those of Windows.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any, ClassVar, Final

import joblib
import numpy as np
from numpy.typing import NDArray

from ...features.errors import HeadstartError, first_line
from ...features.origin import TOLERANCES, distance
from ..backbones import onnx
from ..backbones.build import Backbone
from ..backbones.request import Request
from ..images.synthetic import canary_images
from ..machine import import_onnxruntime, installed, versions
from .engine import Engine, Run, Tuning, few_a_call
from .kept import Graphs, NotConvertible

_CPU: Final = "CPUExecutionProvider"
_DEVICES: Final[dict[str, dict[str, str]]] = {
    # Recent GPUs would otherwise multiply with ten bits where float32 is asked for.
    "CUDAExecutionProvider": {"use_tf32": "0"},
    "MIGraphXExecutionProvider": {},
    "ROCMExecutionProvider": {},
    "DmlExecutionProvider": {},
    # Its older format computes in float16.
    "CoreMLExecutionProvider": {
        "ModelFormat": "MLProgram",
        "AllowLowPrecisionAccumulationOnGPU": "0",
    },
}
"""What ONNX Runtime may compute on beside the processor, the first choice first, and how."""

_BATCH_OF_DEVICES: Final = 32
_MOST_CALLS: Final = 16  # each has activations of its own in memory
_VECTORS: Final = "vectors"
_GRAPH: Final = "graph.onnx"

_log = logging.getLogger("headstart")


def available() -> bool:
    """Whether ONNX Runtime is installed with what converts graphs for it."""
    return all(map(installed, ("onnx", *onnx.ONNX_NEEDS)))


def ready(request: Request) -> bool:
    """Whether `load` needs no TensorFlow: the converted graph is in the cache."""
    return GRAPHS.kept(request)


def load(request: Request, tuning: Tuning) -> tuple[Backbone, ONNXRuntimeEngine]:
    """Load the converted graph of `request`; only where it is not in the cache, make it."""
    backbone = GRAPHS.made(request)
    return backbone, ONNXRuntimeEngine(backbone, tuning)


def devices() -> list[str]:
    """What this ONNX Runtime was built to compute on, by the names of its providers."""
    offered = import_onnxruntime().get_available_providers()
    return [_named(name) for name in (*_DEVICES, _CPU) if name in offered]


class ONNXRuntimeEngine(Engine):
    """Runs a converted graph, its bytes or the path of its file.

    On a CPU calls of one thread each run side by side, one per core: a call that is spread over the
    cores waits for the slowest of them in every layer. They take few images each (`few_a_call`).
    Another device is used if it gives the vectors of the CPU.
    """

    name: ClassVar[str] = "onnxruntime"

    def __init__(self, backbone: Backbone, tuning: Tuning | None = None) -> None:
        tuning = tuning or Tuning()
        self._runtime = import_onnxruntime()
        self._graph = _as_taken(backbone.graph)
        usual = joblib.cpu_count(only_physical_cores=True)
        self._cores = tuning.threads or tuning.share or usual
        self._provider = self._usable(backbone.size)
        fitting = few_a_call(backbone.size) if self._provider == _CPU else _BATCH_OF_DEVICES
        super().__init__(backbone, tuning.batch or fitting)

    def environment(self) -> dict[str, Any]:
        """ONNX Runtime and the device."""
        return {
            "engine": self.name,
            "backend": self.name,
            "device": _named(self._provider),
            # By whatever name it was installed: that for CUDA has another one.
            self.name: self._runtime.__version__,
            **versions("keras"),
        }

    def _compile(self, batch: int) -> Run:
        if self._provider == _CPU:
            self.calls = min(self._cores, _MOST_CALLS)
        session = _session(self._graph, self._provider, self._cores // self.calls, batch)
        return functools.partial(_run, session)

    def _usable(self, size: int) -> str:
        """The provider of the first device that gives the vectors of the CPU, or that of the CPU.

        Devices multiply in what precision they like, and some only with libraries that are missing.
        """
        offered = self._runtime.get_available_providers()
        for provider in (one for one in _DEVICES if one in offered):
            try:
                apart = self._apart(provider, canary_images(size, "stretch"))
            except Exception as error:  # noqa: BLE001 - of anybody's driver
                problem = first_line(error)
            else:
                if apart <= TOLERANCES["f32"]:
                    return provider
                problem = f"its vectors are {apart:.2g} from those of the processor"
            _log.warning(
                "the onnxruntime engine cannot use %s: %s; going on without it",
                _named(provider),
                problem,
            )
        return _CPU

    def _apart(self, provider: str, images: NDArray[np.uint8]) -> float:
        """Largest relative distance of vectors computed by `provider` from those of the CPU."""
        ours, theirs = (
            _session(self._graph, one, self._cores, len(images)) for one in (provider, _CPU)
        )
        if provider not in ours.get_providers():
            raise RuntimeError("its libraries cannot be loaded")
        return distance(_run(ours, images), _run(theirs, images))


def _session(graph: bytes | str, provider: str, threads: int, batch: int) -> Any:
    """A graph ready to run on `batch` images."""
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # it raises what is an error, and the rest is chatter
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Threads that wait for work by spinning take the cores from decoding, and other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_free_dimension_override_by_name(onnx.BATCH, batch)
    # Left to itself it goes on with another provider, and prints that on standard output.
    session = runtime.InferenceSession(
        graph,
        options,
        providers=[(provider, _DEVICES.get(provider, {}))],
        enable_fallback=False,
    )
    session.disable_fallback()
    return session


def _run(session: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = session.run(None, {onnx.IMAGES: images})[0]
    return vectors


def _named(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider")


def _as_taken(graph: bytes | Path) -> bytes | str:
    """A graph as ONNX Runtime takes it, which knows no path that is not text."""
    if isinstance(graph, bytes):
        return graph
    try:
        str(graph).encode()
    except UnicodeEncodeError:
        return graph.read_bytes()
    return str(graph)


def _converted(backbone: Backbone) -> bytes:
    import_onnxruntime()
    image = canary_images(backbone.size, "stretch")[:1]
    try:
        graph: bytes = onnx.converted(backbone.graph, _VECTORS).SerializeToString()
        # What it does not know tf2onnx leaves as it is, for whoever reads the graph.
        apart = distance(
            _run(_session(graph, _CPU, 1, 1), image),
            np.asarray(backbone.graph(image, training=False)),
        )
    except (HeadstartError, MemoryError):
        raise
    except Exception as error:
        raise _not_convertible(backbone, first_line(error)) from error
    if not apart <= TOLERANCES["f32"]:
        raise _not_convertible(backbone, f"its vectors come out {apart:.2g} from those of Keras")
    return graph


def _not_convertible(backbone: Backbone, why: str) -> NotConvertible:
    return NotConvertible(
        f"the onnxruntime engine cannot have {backbone.graph.name}, which tf2onnx does not "
        f"convert: {why}; use another engine"
    )


def _save(graph: bytes, place: Path, _: Backbone) -> None:
    (place / _GRAPH).write_bytes(graph)


GRAPHS: Final = Graphs(
    engine=ONNXRuntimeEngine.name,
    files=(_GRAPH,),
    version=1,
    libraries=("keras", "tensorflow", "onnx", "tf2onnx"),
    make=_converted,
    save=_save,
)
