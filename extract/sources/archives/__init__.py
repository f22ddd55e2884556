"""Archives, read where they lie: zip and tar files, shards of WebDataset -> references to images.

Nothing is written anywhere, and no link is followed: a member is a place in a file.
"""

import os
from collections.abc import Sequence

from ..listing import Listing
from ..place import LocalPlace, Place
from . import shards
from .scan import OTHER_KINDS, Scan


def is_archive(name: str) -> bool:
    """Whether a path or URL is one of archives, by its suffix; braces may stand for several."""
    bare = name.partition("?")[0] if "://" in name else name
    return bare.lower().endswith((*shards.SUFFIXES, *OTHER_KINDS)) and not os.path.isdir(name)


def names(name: str) -> list[str]:
    """The archives that a name means: ``shard-{000..123}.tar`` is 124."""
    return [name] if os.path.lexists(name) else shards.expanded(name)


def listed(name: str, places: Sequence[Place]) -> Listing:
    """All images in one archive or several, by path.

    Those of one are called as they are in it; of several, the name of theirs stands before that.

    Raises
    ------
    SourceError
        If one is not there, or cannot be read to its end, or if there is no image in them.
    """
    scan = Scan()
    several = len(places) > 1
    called = shards.paths([place.name for place in places]) if several else [""]
    around = shards.tops([place.name for place in places]) if several else [()]
    for turn, (place, above, top) in enumerate(zip(places, called, around, strict=True)):
        scan.add(place, turn, os.fsencode(above + "/") if above else b"", top)
    local = all(isinstance(place, LocalPlace) for place in places)
    called_all = os.path.abspath(name) if several and local else name
    return scan.listing(called_all if several else places[0].name)
