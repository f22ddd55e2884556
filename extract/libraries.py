"""The heavy libraries: imported when they are needed and without their chatter; their versions."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def import_keras() -> Any:
    """Import Keras with its backend, without the backend's chatter on standard error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" not in sys.modules:
        with _silent_stderr():
            importlib.import_module("keras")
            if sys.modules["keras"].backend.backend() == "tensorflow":
                _let_gpu_memory_grow()
    return sys.modules["keras"]


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would report every import to its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def versions(*libraries: str) -> dict[str, str]:
    """Versions of installed libraries, told without importing them; unknown ones are left out."""
    found = {}
    for name in libraries:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _let_gpu_memory_grow() -> None:
    # Left alone, TensorFlow takes all the memory of every GPU, from other programs too.
    import tensorflow

    for gpu in tensorflow.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):  # it is in use already
            tensorflow.config.experimental.set_memory_growth(gpu, True)


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    # TensorFlow's native part writes "All log messages before absl::InitializeLog() ..." past
    # sys.stderr and past its own log level.
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
