"""Where things that can be computed again are kept, and under which names; what is there.

The folder can be deleted at any time; `clear` leaves what is in use.
"""

import hashlib
import json
from collections.abc import Mapping

from ...features.durable.caches import folder as folder
from ...features.durable.caches import use as use
from ..backbones.request import Request
from ..backbones.weights import RANDOM, RANDOM_SCHEME
from .held import Cleared, Contents, Item, Kind, clear, contents, size, trim

__all__ = [
    "Cleared",
    "Contents",
    "Item",
    "Kind",
    "clear",
    "contents",
    "folder",
    "name",
    "size",
    "trim",
    "use",
]


def name(request: Request, more: Mapping[str, object]) -> str:
    """A file name for what is made from backbone, size and weights of `request`.

    `more` has everything else that changes it, as plain values.
    """
    weights = request.weights
    whole = {
        "backbone": request.architecture.name,
        "size": request.size,
        "weights": [weights.kind, weights.sha256, RANDOM_SCHEME if weights.kind == RANDOM else ""],
        **more,
    }
    identity = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
    return f"{request.architecture.name}-{request.size}-{identity[:16]}"
