"""What this machine computes with, as far as it can be told without loading a heavy library."""

from __future__ import annotations

import functools
import glob
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

_BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""As Linux names them in /proc/cpuinfo; ``bf16`` is that of Arm."""

_GPU_DEVICES: Final = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/dxg")
"""NVIDIA's driver, AMD's, and the one of Windows inside its Linux."""

SLOW_BF16: Final = (
    "this processor has no bf16 arithmetic (AVX512_BF16, AMX or Arm's bf16), so bf16 is emulated: "
    "Xception ran 2.8 times slower in it than in f32 (4.4 against 12.5 images a second) with these "
    "instructions switched off; --precision f32 is the faster one here"
)


@functools.cache
def has_bf16() -> bool | None:
    """Whether the processor has bf16 arithmetic; None where there is no telling."""
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
    """Whether there is a sign of a GPU; if so, Keras' backend has to say whether it can use it."""
    if sys.platform == "darwin":
        try:
            return bool(version("tensorflow-metal"))
        except PackageNotFoundError:
            return False
    return any(glob.glob(pattern) for pattern in _GPU_DEVICES)
