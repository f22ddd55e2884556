"""Images -> features: the frozen pass. Only this folder loads TensorFlow, when it is needed.

This folder is imported as ``headstart.extract``.
"""

from typing import TYPE_CHECKING, Any

from .pipeline import extract
from .sources import scan
from .sources.listing import Listing
from .sources.vectors import import_vectors
from .work.shards import ShardSummary, extract_shard, seal
from .work.summary import Summary

if TYPE_CHECKING:
    from .encoders.run import Embedded, embed
    from .system import System, system_info
    from .transformer import ImageEmbedder

__all__ = [
    "Embedded",
    "ImageEmbedder",
    "Listing",
    "ShardSummary",
    "Summary",
    "System",
    "embed",
    "extract",
    "extract_shard",
    "import_vectors",
    "scan",
    "seal",
    "system_info",
]


def __getattr__(name: str) -> Any:
    # It comes with scikit-learn, which commands that extract need not wait for.
    if name == "ImageEmbedder":
        from .transformer import ImageEmbedder

        return ImageEmbedder
    if name in ("System", "system_info"):
        from . import system

        return getattr(system, name)
    if name in ("Embedded", "embed"):
        from .encoders import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
