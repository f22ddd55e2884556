"""The machine, and its heavy libraries: imported when they are needed, without their chatter."""

import contextlib
import functools
import glob
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

_BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""As Linux names them in /proc/cpuinfo; ``bf16`` is that of Arm."""

_GPU_DEVICES: Final = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/dxg")
"""NVIDIA's driver, AMD's, and the one of Windows inside its Linux."""

SLOW_BF16: Final = (
    "this processor has no bf16 arithmetic (AVX512_BF16, AMX or Arm's bf16), so bf16 is emulated: "
    "Xception ran 2.8 times slower in it than in f32 (4.4 against 12.5 images per second) with "
    "these instructions switched off; --precision f32 is the faster one here"
)


def import_keras() -> Any:
    """Import Keras with its backend, without the backend's chatter on standard error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.modules.get("keras") is None:
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
    """Versions of installed libraries, found without importing them; unknown ones are left out."""
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


def installed(library: str) -> bool:
    """Whether a library could be imported, without doing it."""
    try:
        return importlib.util.find_spec(library) is not None
    except ValueError:  # the entry of that name in sys.modules is not a module
        return False


@functools.cache
def has_bf16() -> bool | None:
    """Whether the processor has bf16 arithmetic; None where that is not known."""
    try:
        described = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return None
    flags: set[str] = set()
    for line in described.splitlines():
        name, _, value = line.partition(":")
        if name.strip().casefold() in ("flags", "features"):
            flags.update(value.split())
    return bool(flags & _BF16_FLAGS) if flags else None


def may_have_gpu() -> bool:
    """Whether there is a sign of a GPU; only Keras' backend knows whether it can use it."""
    if sys.platform == "darwin":
        try:
            return bool(version("tensorflow-metal"))
        except PackageNotFoundError:
            return False
    return any(glob.glob(pattern) for pattern in _GPU_DEVICES)
