"""Engines run a frozen graph; they must agree with each other within the canary's tolerance."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING, Final

from ...features.errors import MissingExtra, WrongUsage, install_command
from ...features.units import UNIT_IMAGES
from .. import hardware
from ..libraries import import_keras

if TYPE_CHECKING:
    from ..backbones import Backbone
    from ..request import Request
    from .engine import Engine, Tuning

AUTO: Final = "auto"
KERAS: Final = "keras"
OPENVINO: Final = "openvino"
ENGINES: Final = (AUTO, KERAS, OPENVINO)

_log = logging.getLogger("headstart")


def require_usable(engine: str, tuning: Tuning) -> None:
    """Refuse, before anything is loaded, an engine that cannot run as asked.

    Raises
    ------
    WrongUsage
        If there is no engine of this name, or it has no such setting.
    MissingExtra
        If its library is not installed.
    """
    if engine not in ENGINES:
        raise WrongUsage(f"engine {engine!r}: use one of {', '.join(ENGINES)}")
    if engine == OPENVINO and not installed(OPENVINO):
        raise MissingExtra(
            f"the openvino engine is not installed; install it with: {install_command(OPENVINO)}"
        )
    for name in ("batch", "streams", "threads"):
        value = getattr(tuning, name)
        if value is not None and value < 1:
            raise WrongUsage(f"{name} {value}: at least 1")
    if tuning.batch is not None and tuning.batch > UNIT_IMAGES:
        raise WrongUsage(f"batch {tuning.batch}: at most {UNIT_IMAGES}, the images of a unit")
    if tuning.streams is not None and engine != OPENVINO:
        raise WrongUsage("streams are a setting of the openvino engine: add --engine openvino")


def load(request: Request, engine: str, tuning: Tuning) -> tuple[Backbone, Engine]:
    """Load the backbone that `request` describes into an engine.

    Where the converted graph is in the cache, the ``openvino`` engine does it without TensorFlow.

    Parameters
    ----------
    request : Request
        The settings.
    engine : {"auto", "keras", "openvino"}
        ``"auto"`` is Keras on a GPU, and OpenVINO on a CPU if it is installed.
    tuning : Tuning
        How it uses the machine.

    Raises
    ------
    BackboneError
        If the weights cannot be had or do not fit.
    """
    name = _chosen() if engine == AUTO else engine
    if name == OPENVINO:
        from .. import graphs
        from .openvino import OpenVINOEngine

        backbone = graphs.cached(request)
        if backbone is None and (engine == OPENVINO or _keras_backend() == "tensorflow"):
            backbone = graphs.convert(request)
        if backbone is not None:
            return backbone, OpenVINOEngine(backbone, request.precision, tuning)
    from ..backbones import build
    from .keras import KerasEngine, use_threads

    if tuning.threads or tuning.share:
        use_threads(tuning)
    backbone = build(request)
    return backbone, KerasEngine(backbone, tuning)


def _keras_backend() -> str:
    backend: str = import_keras().backend.backend()
    return backend


def warn_of_slow_bf16(precision: str) -> None:
    """Say on the log that bf16 will be slow, where it will."""
    if precision == "bf16" and hardware.has_bf16() is False and not hardware.may_have_gpu():
        _log.warning("%s", hardware.SLOW_BF16)


def installed(library: str) -> bool:
    """Whether a library could be imported, without doing it."""
    try:
        return importlib.util.find_spec(library) is not None
    except ValueError:  # what stands under its name in sys.modules is no module
        return False


def _chosen() -> str:
    if not installed(OPENVINO):
        return KERAS
    if not hardware.may_have_gpu():
        return OPENVINO  # known without the seconds that asking TensorFlow takes
    from .keras import gpus

    return KERAS if gpus() else OPENVINO
