"""Where things are kept that can be computed again, and under which names.

The folder can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from .weights import RANDOM, RANDOM_RECIPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .request import Request


def folder(kind: str) -> Path:
    """Where things of one kind are kept: in ``$HEADSTART_CACHE``, or the user's cache folder."""
    home = os.environ.get("HEADSTART_CACHE")
    return (Path(home) if home else platformdirs.user_cache_path("headstart")) / kind


def name(request: Request, recipe: Mapping[str, object]) -> str:
    """A file name for what `request` leads to, which says what it is at a glance.

    Parameters
    ----------
    request : Request
        Its backbone, size and weights are part of the name.
    recipe : mapping of str to object
        Whatever else changes the thing, as plain values.
    """
    weights = request.weights
    whole = {
        "backbone": request.architecture.name,
        "size": request.size,
        "weights": [weights.kind, weights.sha256, RANDOM_RECIPE if weights.kind == RANDOM else ""],
        **recipe,
    }
    identity = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
    return f"{request.architecture.name}-{request.size}-{identity[:16]}"
