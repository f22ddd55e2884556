"""Where things that can be computed again are kept, and under which names.

The folder can be deleted at any time.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from ..features.errors import WrongUsage, first_line
from .backbones.request import Request
from .backbones.weights import RANDOM, RANDOM_SCHEME


def folder(kind: str) -> Path:
    """The folder for things of one kind, in ``$HEADSTART_CACHE`` or the user's cache folder."""
    home = os.environ.get("HEADSTART_CACHE")
    if home:
        return Path(home) / kind
    import platformdirs  # not needed where nothing is to be embedded

    try:
        return platformdirs.user_cache_path("headstart") / kind
    except RuntimeError as error:  # no HOME, and no entry for this user
        raise WrongUsage(
            f"there is no folder for caches: {first_line(error)}; name one by HEADSTART_CACHE"
        ) from error


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
