"""The machine, and its heavy libraries: imported when they are needed, without their chatter."""

import contextlib
import functools
import glob
import importlib
import importlib.util
import json
import os
import platform
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..features.child import after_fork
from ..features.errors import BackboneError, first_line, reinstall_command
from ..features.provenance.environment import versions as versions

_BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""As Linux names them in /proc/cpuinfo; ``bf16`` is that of Arm."""

_INT8_FLAGS: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
"""The same of dot products of 8 bits; the last two are those of Arm."""

_GPU_DEVICES: Final = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/dxg")
"""NVIDIA's driver, AMD's, and the one of Windows inside its Linux."""

SLOW_BF16: Final = (
    "this processor has no bf16 arithmetic (AVX512_BF16, AMX or Arm's bf16), so bf16 is emulated: "
    "Xception ran 2.8 times slower in it than in f32 (4.4 against 12.5 images per second) with "
    "these instructions switched off; --precision f32 is the faster one here"
)

SLOW_INT8: Final = (
    "this processor has no dot products of 8 bits (VNNI, AMX or Arm's), so int8 gains less and its "
    "sums overflow: with these instructions switched off MobileNetV2 took 0.55 of the processor "
    "time of f32 (0.40 with them), and its vectors, which processors with them refuse, had a "
    "cosine of 0.983 to those in f32 (0.997); --precision f32 is the safe one here"
)

_NAMES: Final = {
    "jax": "JAX",
    "keras": "Keras",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "tensorflow": "TensorFlow",
    "torch": "PyTorch",
}
_used: Final[set[str]] = set()
"""Libraries that have been asked for in this process."""
_left_behind: Final[set[str]] = set()
"""Libraries whose threads stayed in the process that this one was forked from."""


class BrokenEngine(BackboneError):
    """The library of an engine is installed and cannot be imported."""


def import_keras() -> Any:
    """Import Keras with its backend, without the backend's chatter on standard error."""
    _require_own("keras")
    _used.add("keras")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.modules.get("keras") is None:
        before = set(sys.modules)
        try:
            with _silent_stderr():
                importlib.import_module("keras")
        except Exception as error:
            # Half of Keras stays imported, with the setting that it began with. Without that half
            # the next call tries again, in a notebook where the setting has been mended.
            for name in set(sys.modules) - before:
                if name.startswith("keras."):
                    del sys.modules[name]
            raise _broken_keras(error) from error
        if sys.modules["keras"].backend.backend() == "tensorflow":
            with _silent_stderr():
                _let_gpu_memory_grow()
    _require_own(sys.modules["keras"].backend.backend())
    return sys.modules["keras"]


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would report every import to its makers."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return _import_engine("openvino", "Core")


def import_onnxruntime() -> Any:
    """Import ONNX Runtime without its remarks on the devices that it looks for, and telemetry."""
    with contextlib.nullcontext() if "onnxruntime" in sys.modules else _silent_stderr():
        onnxruntime = _import_engine("onnxruntime", "InferenceSession")
    onnxruntime.disable_telemetry_events()  # of Windows
    return onnxruntime


def _import_engine(library: str, needed: str) -> Any:
    _require_own(library)
    _used.add(library)
    try:
        module = importlib.import_module(library)
        getattr(module, needed)
    except Exception as error:  # of a shared library that is missing: OSError or ImportError
        raise BrokenEngine(
            f"{_NAMES[library]} is installed and cannot be imported: {first_line(error)}; use "
            f"--engine keras, or install it again with: "
            f"{reinstall_command(library)}"
        ) from error
    return module


def keras_setting() -> str | None:
    """What sets Keras to another backend than TensorFlow, or that it cannot be told."""
    name = os.environ.get("KERAS_BACKEND")
    if name:
        return None if name == "tensorflow" else f"KERAS_BACKEND={name}"
    path = _keras_json()
    try:
        name = json.loads(path.read_bytes()).get("backend", "tensorflow")
    except (FileNotFoundError, ValueError):  # Keras takes what is no JSON for an empty file
        return None
    except (OSError, AttributeError):
        return str(path)
    return None if name == "tensorflow" else f"{path} (backend {name})"


def keras_home() -> Path:
    """Where Keras looks for its settings, and keeps the weights that it downloads."""
    if home := os.environ.get("KERAS_HOME"):
        return Path(home).expanduser()
    home = os.path.expanduser("~")
    return Path(home if os.access(home, os.W_OK) else "/tmp") / ".keras"


def _keras_json() -> Path:
    return keras_home() / "keras.json"


def _broken_keras(error: Exception) -> BackboneError:
    setting, why = keras_setting(), first_line(error)
    if (
        setting is None
        and isinstance(error, ValueError | TypeError | AttributeError)
        and _keras_json().exists()
    ):
        setting = str(_keras_json())  # a value that Keras does not know
    if setting is None:
        return BackboneError(
            f"Keras cannot be imported: {why}; install it and its backend again with: "
            f"{reinstall_command('keras', 'tensorflow')}"
        )
    remedy = "set it to tensorflow" if setting.startswith("KERAS_BACKEND") else "mend or delete it"
    return BackboneError(f"Keras cannot be imported as {setting} wants it: {why}; {remedy}")


def _started() -> set[str]:
    """Libraries that run threads in this process: those asked for here, or by the user's code."""
    started = set(_used)
    context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    if getattr(context, "_context_handle", None) is not None:
        started.add("tensorflow")
    if getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None):
        started.add("jax")
    return started


def _leave_behind() -> None:
    """In a process that has just been forked: note what cannot be used in it."""
    _left_behind.update(_started())
    _used.clear()


def _require_own(library: str) -> None:
    """Refuse a library whose threads are in another process: calls would wait for them for ever."""
    if library in _left_behind:
        raise forked_after(library)


def forked_after(library: str) -> BackboneError:
    """The error of a process that was forked from one in which a library had started."""
    name = _NAMES.get(library, library)
    return BackboneError(
        f"this process was forked after {name} had started in its parent, which {name} does not "
        f'survive; start processes by spawn (multiprocessing.get_context("spawn")), or fork '
        f"before anything is embedded"
    )


after_fork(_leave_behind)
with contextlib.suppress(OSError):  # only Linux tells
    # This module was not there yet when a process was forked in which a library had started.
    if len(os.listdir("/proc/self/task")) <= threading.active_count():
        _leave_behind()


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
    with contextlib.suppress(AttributeError, OSError, ValueError):  # none, or it is closed
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is none, and so no chatter
        yield
        return
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


def has_bf16() -> bool | None:
    """Whether the processor has bf16 arithmetic; None where that is not known."""
    return bool(flags() & _BF16_FLAGS) if flags() else None


def has_int8() -> bool | None:
    """Whether the processor has dot products of 8 bits; None where that is not known."""
    return bool(flags() & _INT8_FLAGS) if flags() else None


@functools.cache
def flags() -> frozenset[str]:
    """What the processor can do, as Linux names it; nothing where that is not known."""
    try:
        described = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return frozenset()
    found: set[str] = set()
    for line in described.splitlines():
        name, _, value = line.partition(":")
        if name.strip().casefold() in ("flags", "features"):
            found.update(value.split())
    return frozenset(found)


def is_x86() -> bool:
    """Whether the processor is one of Intel's or AMD's of 64 bits."""
    return platform.machine().casefold() in ("x86_64", "amd64")


def may_have_gpu() -> bool:
    """Whether there is a sign of a GPU; only Keras' backend knows whether it can use it."""
    if sys.platform == "darwin":
        return bool(versions("tensorflow-metal"))
    return any(glob.glob(pattern) for pattern in _GPU_DEVICES)
