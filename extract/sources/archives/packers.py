"""Packers of Python's own library that some builds of Python lack: imported when one is needed."""

import importlib
import sys
import zlib
from typing import Any, Final

from ....features.records import AGAIN
from ..image import Unreadable

_CALLED: Final = {"bz2": "bzip2", "lzma": "xz or LZMA"}


def needed(module: str) -> Any:
    """``bz2`` or ``lzma``; an `Unreadable` says that it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Unreadable(
            f"is packed by {_CALLED[module]}, and this Python was built without the module "
            f"{module}; unpack it, or use another Python; {AGAIN}"
        ) from error


def damage() -> tuple[type[Exception], ...]:
    """What they raise at bytes that they cannot unpack."""
    lzma = sys.modules.get("lzma")
    return zlib.error, OSError, EOFError, ValueError, *([lzma.LZMAError] if lzma else [])
