"""What the shards of a run have left undone."""

import collections
from collections.abc import Mapping, Sequence
from typing import Final

from ....features.errors import FeatureFileError, count, listed
from ....features.journal.known import Known
from ....features.journal.shards import whose
from ....features.provenance.augmentation import Augmentation
from ....features.records import UNREAD, FileStat
from ...sources.image import ImageReference
from ..catch_up import CaughtUp
from ..summary import Tally

_TRIES: Final = 100
"""So many images that a shard could not read, and `seal` cannot, tell that the others cannot be
read either: each may take seconds."""


def all_done(
    known: Known,
    images: Sequence[ImageReference],
    stats: Mapping[bytes, FileStat],
    augmentation: Augmentation,
    of: int,
) -> CaughtUp:
    """What is known of images of which so many shards have made everything known.

    Raises
    ------
    FeatureFileError
        If they have not: the message names those that lack something.
    """
    stats, tries = dict(stats), _TRIES
    unread = {file.path: file for one in known.units for file in one.files if file.digest == UNREAD}
    missing: collections.Counter[int] = collections.Counter()
    for image in images:
        seen = known.seen(stats[image.path])
        if seen is None and image.path in unread:  # it could not be read by its shard
            readable = tries > 0 and stats[image.path].stamp and image.digest() != UNREAD
            if not readable:
                tries -= 1
                stats[image.path] = unread[image.path].stat
                continue
        views = augmentation.of_split(image.split)
        if seen is None or (not seen.reason and known.lacking(seen.digest, views)):
            missing[whose(image.path, of)] += 1
    if missing:
        shards = listed([f"{number}/{of}" for number in sorted(missing)])
        raise FeatureFileError(
            f"{known.out}: {missing.total():,} of {count(len(images), 'image')} are not embedded "
            f"yet, of the {'shard' if len(missing) == 1 else 'shards'} {shards}; run these again "
            f"(--shard), or the same command without --shard, which embeds the rest and seals"
        )
    return CaughtUp(known, stats, Tally())
