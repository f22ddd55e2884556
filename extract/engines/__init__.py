"""Engines run a frozen graph; they must agree with each other within the canary's tolerance.

An engine is a module with `available` and `load`, and a row in `TABLE`.
"""

import dataclasses
import logging
from collections.abc import Callable
from typing import Final

from ...features.errors import MissingExtra, WrongUsage, install_command
from ...features.journal.units import UNIT_IMAGES
from .. import machine
from ..backbones.build import Backbone
from ..backbones.request import Request
from . import keras, openvino
from .converted import NotConvertible
from .engine import Engine, Tuning

_MOST: Final = 1024  # threads and the like: more than a machine has, and a mistyped number
AUTO: Final = "auto"
KERAS: Final = "keras"
OPENVINO: Final = "openvino"

_log = logging.getLogger("headstart")


@dataclasses.dataclass(frozen=True)
class Row:
    """One engine: what is known of it before anything is loaded, and how it is loaded."""

    available: Callable[[], bool]
    """Whether its library is installed; the extra that installs it has the engine's name."""
    precisions: tuple[str, ...]
    """Arithmetic that it can compute in, of `features.origin.PRECISIONS`."""
    load: Callable[[Request, Tuning], tuple[Backbone, Engine]]
    streams: bool = False
    """Whether it has the setting `streams`."""


TABLE: Final[dict[str, Row]] = {
    KERAS: Row(keras.available, ("f32", "bf16"), keras.load),
    OPENVINO: Row(openvino.available, ("f32", "bf16"), openvino.load, streams=True),
}
ENGINES: Final = (AUTO, *TABLE)


def require_usable(engine: str, tuning: Tuning, precision: str = "f32") -> None:
    """Refuse, before anything is loaded, an engine that cannot run as asked."""
    row = TABLE.get(engine)
    if row is None and engine != AUTO:
        raise WrongUsage(f"engine {engine!r}: use one of {', '.join(ENGINES)}")
    if row is not None and not row.available():
        raise MissingExtra(
            f"the {engine} engine is not installed; install it with: {install_command(engine)}"
        )
    if row is not None and precision not in row.precisions:
        raise WrongUsage(
            f"precision {precision!r}: the {engine} engine computes in {', '.join(row.precisions)}"
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

    Where the converted graph is in the cache, the ``openvino`` engine does it without TensorFlow.
    """
    if engine != AUTO:
        return TABLE[engine].load(request, tuning)
    chosen = choice()
    if chosen != KERAS:
        try:
            return TABLE[chosen].load(request, tuning)
        except NotConvertible:
            pass
        except machine.BrokenOpenVINO as error:
            _log.warning("going on with the keras engine, since %s", error)
    return TABLE[KERAS].load(request, tuning)


def choice() -> str:
    """The engine that ``"auto"`` is here: Keras on a GPU, on a CPU OpenVINO if it is installed."""
    if not openvino.available():
        return KERAS
    if not machine.may_have_gpu():
        return OPENVINO  # known without the seconds that asking TensorFlow takes
    return KERAS if keras.gpus() else OPENVINO


def warn_of_slow_bf16(precision: str) -> None:
    """Warn on the log where bf16 will be slow."""
    if precision == "bf16" and machine.has_bf16() is False and not machine.may_have_gpu():
        _log.warning("%s", machine.SLOW_BF16)
