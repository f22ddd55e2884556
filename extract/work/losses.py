"""What a run would take out of a file: a source that is mistyped or half gone is not a wish."""

import hashlib
from collections.abc import Mapping, Sequence, Set

from ...features.errors import WrongUsage
from ...features.journal.known import Known
from ...features.records import FileStat
from ..sources.image import ImageReference, Unreadable


def require_little_lost(
    known: Known, images: Sequence[ImageReference], stats: Mapping[bytes, FileStat]
) -> None:
    """Refuse, before any work, a source that lacks what is known from another one, or most of it.

    What counts are contents, wherever they lie now. Images that cannot be read now are not lost.

    Raises
    ------
    WrongUsage
        If vectors that came from another source would be lost, or more than half of all.
    """
    contents = known.contents
    missing = []
    lost = set(contents)
    for image in images:
        found = known.found(stats[image.path])
        if found is None:
            missing.append(image)
        else:
            lost.discard(found.digest)
    if not _too_many(known, contents, lost):
        return
    # Moved and renamed files have their contents, and so the sizes, that are known.
    sizes = {file.stat.size for digest in lost if (file := known.image(digest)) is not None}
    for image in missing:
        if stats[image.path].size in sizes:
            lost.discard(_digest(image, known))
    if not _too_many(known, contents, lost):
        return
    others = sorted({contents[digest] for digest in lost} - {known.source})
    elsewhere = f" (they come from {others[0] or 'elsewhere'})" if others else ""
    raise WrongUsage(
        f"{known.out}: {len(lost):,} of the {len(contents):,} vectors known for it are of no image "
        f"in {known.source}{elsewhere} and would be removed; choose another output, or have them "
        f"removed by --remove (in Python remove=True)"
    )


def _too_many(known: Known, contents: Mapping[bytes, str], lost: Set[bytes]) -> bool:
    foreign = any(contents[digest] != known.source for digest in lost)
    return foreign or 2 * len(lost) > len(contents)


def _digest(image: ImageReference, known: Known) -> bytes:
    try:
        return hashlib.sha256(image.read()[0]).digest()
    except Unreadable:
        last = known.last(image.path)
        return b"" if last is None else last.digest
