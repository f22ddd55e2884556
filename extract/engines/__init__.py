"""Engines run a frozen graph; they must agree with each other within the canary's tolerance.

An engine is a module with `available` and `load`, and a row in `TABLE`.
"""

import dataclasses
import logging
from collections.abc import Callable
from typing import Final

from ...features.errors import MissingExtra, WrongUsage, install_command
from ...features.journal.units import UNIT_IMAGES
from ...features.origin import INT8
from .. import machine
from ..backbones.build import Backbone
from ..backbones.request import Request
from . import keras, onnxruntime, openvino
from .engine import Engine, Tuning
from .kept import NotConvertible, OtherBackend

_MOST: Final = 1024  # threads and the like: more than a machine has, and a mistyped number
AUTO: Final = "auto"
KERAS: Final = "keras"
OPENVINO: Final = "openvino"
ONNXRUNTIME: Final = "onnxruntime"

_log = logging.getLogger("headstart")


@dataclasses.dataclass(frozen=True)
class Row:
    """One engine: what is known of it before anything is loaded, and how it is loaded."""

    available: Callable[[], bool]
    """Whether its library is installed."""
    precisions: tuple[str, ...]
    """Arithmetic that it can compute in, of `features.origin.PRECISIONS`."""
    load: Callable[[Request, Tuning], tuple[Backbone, Engine]]
    ready: Callable[[Request], bool] = lambda _: False
    """Whether that takes no TensorFlow."""
    devices: Callable[[], list[str]] = lambda: ["CPU"]
    """What it could compute on here; this imports its library."""
    streams: bool = False
    """Whether it has the setting `streams`."""
    extra: str | None = None
    """The extra that installs its library, if that has another name than the engine."""


TABLE: Final[dict[str, Row]] = {
    KERAS: Row(keras.available, ("f32", "bf16"), keras.load, devices=keras.devices),
    OPENVINO: Row(
        openvino.available,
        ("f32", "bf16", INT8),
        openvino.load,
        openvino.ready,
        openvino.devices,
        streams=True,
    ),
    ONNXRUNTIME: Row(
        onnxruntime.available,
        ("f32",),
        onnxruntime.load,
        onnxruntime.ready,
        onnxruntime.devices,
        extra="onnx",
    ),
}
ENGINES: Final = (AUTO, *TABLE)


def require_usable(engine: str, tuning: Tuning, precision: str = "f32") -> None:
    """Refuse, before anything is loaded, an engine that cannot run as asked."""
    row = TABLE.get(engine)
    if row is None and engine != AUTO:
        raise WrongUsage(f"engine {engine!r}: use one of {', '.join(ENGINES)}")
    if row is not None and not row.available():
        raise MissingExtra(
            f"the {engine} engine is not installed; install it with: "
            f"{install_command(row.extra or engine)}"
        )
    if row is not None and precision not in row.precisions:
        raise WrongUsage(
            f"precision {precision!r}: the {engine} engine computes in {', '.join(row.precisions)}"
        )
    if row is None and not any(
        one.available() for one in TABLE.values() if precision in one.precisions
    ):
        raise MissingExtra(
            f"precision {precision!r}: no engine that computes in it is installed; install one "
            f"with: {install_command(precision)}"
        )
    for name in ("batch", "streams", "threads"):
        value = getattr(tuning, name)
        if value is not None and not 1 <= value <= _MOST:
            raise WrongUsage(f"{name} {value}: at least 1, and at most {_MOST:,}")
    if tuning.batch is not None and tuning.batch > UNIT_IMAGES:
        raise WrongUsage(f"batch {tuning.batch}: at most {UNIT_IMAGES}, the images of a unit")
    if tuning.streams is not None and not (row is not None and row.streams):
        raise WrongUsage("streams are a setting of the openvino engine: add --engine openvino")


def load(request: Request, engine: str, tuning: Tuning) -> tuple[Backbone, Engine]:
    """Load the backbone that `request` describes into an engine.

    Where the converted graph is in the cache, those that convert it do it without TensorFlow.
    """
    name = _taken(engine, request.precision)
    if engine != AUTO or name == KERAS or request.precision not in TABLE[KERAS].precisions:
        return TABLE[name].load(request, tuning)
    try:
        return TABLE[name].load(request, tuning)
    except OtherBackend:  # as the user wants it
        pass
    except (NotConvertible, machine.BrokenEngine) as error:
        _log.warning("going on with the keras engine, since %s", error)
    return TABLE[KERAS].load(request, tuning)


def ready(request: Request, engine: str) -> bool:
    """Whether `load` will take no TensorFlow; this takes none where it is so."""
    if engine == AUTO and not any(row.ready(request) for row in TABLE.values()):
        return False
    return TABLE[_taken(engine, request.precision)].ready(request)


def _taken(engine: str, precision: str) -> str:
    """The engine that is loaded where `engine` is asked for."""
    if engine != AUTO:
        return engine
    fitting = [name for name, row in TABLE.items() if precision in row.precisions]
    chosen = fitting[0] if len(fitting) == 1 else choice()
    return chosen if chosen in fitting else KERAS


def choice() -> str:
    """The engine that ``"auto"`` is here: Keras on a GPU, on a CPU the fastest that is installed.

    That is OpenVINO; without it ONNX Runtime, but only on x86-64, where it was measured beside
    Keras: 1.9 to 3.2 times as fast with a graph converted before (benchmarks/results).
    """
    fast = [OPENVINO, *([ONNXRUNTIME] if machine.is_x86() else [])]
    for name in fast:
        if TABLE[name].available():
            # Known without the seconds that asking TensorFlow takes where there can be no GPU.
            return KERAS if machine.may_have_gpu() and keras.gpus() else name
    return KERAS


def warn_of_slow_int8(precision: str) -> None:
    """Warn on the log where int8 will be slow, and its vectors worse."""
    if precision == INT8 and machine.has_int8() is False:
        _log.warning("%s", machine.SLOW_INT8)


def warn_of_slow_bf16(precision: str) -> None:
    """Warn on the log where bf16 will be slow."""
    if precision == "bf16" and machine.has_bf16() is False and not machine.may_have_gpu():
        _log.warning("%s", machine.SLOW_BF16)
