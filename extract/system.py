"""What this machine has for extraction: processor, libraries, engines and caches."""

import contextlib
import dataclasses
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import joblib

from ..features.errors import HeadstartError, install_command
from . import cache, engines, machine

_LIBRARIES: Final = (
    *("numpy", "pillow", "h5py", "scikit-learn", "keras", "tensorflow", "jax", "torch"),
    *("openvino", "nncf", "onnxruntime", "onnxruntime-gpu", "onnx", "tf2onnx"),
)

_ARITHMETIC: Final = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_bf16": "AMX BF16",
    "amx_int8": "AMX INT8",
    "asimd": "NEON",
    "asimddp": "dot products",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "sve": "SVE",
}
"""What decides on speed, as Linux names it in /proc/cpuinfo, and as people do."""

_CACHES: Final = ("embeddings", "graphs", "heads", "remote")
"""Kinds of things that are kept, see `cache.folder`."""


@dataclasses.dataclass(frozen=True)
class EngineState:
    """An engine, and whether it can be used here."""

    name: str
    usable: bool
    precisions: tuple[str, ...]
    devices: tuple[str, ...]
    """What it could compute on; empty if it cannot be used."""
    problem: str
    """Why it cannot be used, and what to do; else empty."""


@dataclasses.dataclass(frozen=True)
class Cache:
    """A folder of things that can be made again."""

    folder: str
    entries: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class System:
    """What extraction finds on this machine."""

    system: str
    python: str
    headstart: str
    processor: str
    cores: int
    arithmetic: list[str]
    """Instructions of the processor that decide on speed; empty where they are not known."""
    memory: int
    """Bytes."""
    engines: list[EngineState]
    auto: str
    """The engine that ``"auto"`` takes in f32; empty if that cannot be told."""
    versions: dict[str, str]
    """Of the libraries that are installed."""
    caches: dict[str, Cache]
    """``graphs``: converted and quantised backbones. ``embeddings``: those of `ImageEmbedder`.
    ``heads``: which backbone each head that has predicted needs. ``weights``: what Keras has
    downloaded."""


def system_info() -> System:
    """Look at this machine; TensorFlow is imported only where there is a sign of a GPU."""
    import psutil

    flags = machine.flags()
    states = {name: _state(name, row) for name, row in engines.TABLE.items()}
    versions = machine.versions("headstart", *_LIBRARIES)
    return System(
        system=platform.platform(),
        python=platform.python_version(),
        headstart=versions.pop("headstart", ""),
        processor=_processor(),
        cores=joblib.cpu_count(),
        arithmetic=[shown for flag, shown in _ARITHMETIC.items() if flag in flags],
        memory=psutil.virtual_memory().total,
        engines=list(states.values()),
        auto=_auto(states),
        versions=versions,
        caches=_caches(),
    )


def _auto(states: Mapping[str, EngineState]) -> str:
    try:
        chosen = engines.choice()
    except HeadstartError:  # of a Keras that cannot be imported, as its state says
        chosen = engines.KERAS
    for name in (chosen, engines.KERAS):  # where the one cannot be imported it is the other
        if states[name].usable:
            return name
    return ""


def _state(name: str, row: engines.Row) -> EngineState:
    devices: tuple[str, ...] = ()
    problem = ""
    if row.available():
        try:
            devices = tuple(row.devices())
        except HeadstartError as error:
            problem = str(error)
    else:
        problem = f"not installed; install it with: {install_command(row.extra or name)}"
    return EngineState(name, not problem, row.precisions, devices, problem)


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", "rb") as file:  # only Linux tells
        for line in file:
            key, _, value = line.decode("utf-8", "replace").partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _caches() -> dict[str, Cache]:
    folders = {"weights": machine.keras_home() / "models"}
    with contextlib.suppress(HeadstartError):  # there is none, as every use of it says
        folders |= {kind: cache.folder(kind) for kind in _CACHES}
    return {kind: _sized(folder) for kind, folder in sorted(folders.items())}


def _sized(folder: Path) -> Cache:
    try:
        entries = sum(not name.startswith(".") for name in os.listdir(folder))
    except OSError:
        entries = 0
    return Cache(str(folder), entries, cache.size(folder))
