"""Where things are kept that can be computed, or fetched, again.

The folder can be deleted at any time, but for what a run that is at work has in it.
"""

import os
from pathlib import Path

from ..errors import WrongUsage, first_line


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
