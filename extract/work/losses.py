"""What a run would take out of a file: a source that is mistyped or half gone is not a wish."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...features.errors import FeatureFileError, SourceError, WrongUsage
from ...features.journal import units
from ...features.journal.known import Known
from ...features.journal.outputs import Output
from ...features.records import UNREAD, FileStat, Listed
from ..embedding import Embedding
from ..sources.image import ImageReference


def require_little_lost(
    known: Known,
    images: Sequence[ImageReference],
    stats: Mapping[bytes, FileStat],
    *,
    ask: bool = False,
    unlisted: Sequence[bytes] = (),
) -> None:
    """Refuse, before any work, a source that lacks what is known from another one, or most of it.

    What counts are contents, wherever they lie now. Images that cannot be read now are not lost;
    but where one is listed of which nothing is known it may be any of the missing ones, so that
    each of them counts, as with `ask`; so they do where one of the folders that are `unlisted` now
    had known images in it.

    Raises
    ------
    WrongUsage
        If vectors that came from another source would be lost, or more than half of all.
    """
    unread = (stat for stat in stats.values() if not stat.stamp)
    away = next((one for one in unlisted if _had_images(known, one)), None)
    ask = ask or away is not None or any(known.found(stat) is None for stat in unread)
    lost = _Lost(known, ask=ask)
    unknown = []
    if not lost.too_many():
        return
    for image in images:
        found = known.found(stats[image.path])
        if found is None:
            unknown.append(image)
            continue
        lost.less(found.digest)
        if not lost.too_many():
            return
    # Moved and renamed files have their contents, and so the sizes, that are known.
    sizes = {file.stat.size for digest in lost.digests if (file := known.image(digest)) is not None}
    for image in unknown:
        if not lost.too_many():
            return
        last = known.last(image.path)
        if last is not None or stats[image.path].size in sizes:
            digest = image.digest()
            lost.less(last.digest if last is not None and digest == UNREAD else digest)
    if lost.too_many():
        others = sorted(set(lost.foreign.values()))
        elsewhere = f" (they come from {others[0] or 'elsewhere'})" if others else ""
        if away is not None:
            elsewhere = f" (the link {os.fsdecode(away)} leads to nothing now)"
        raise WrongUsage(
            f"{known.out}: {len(lost.digests):,} of the {lost.of:,} vectors known for it are "
            f"of no image in {known.source}{elsewhere} and would be removed; choose another "
            f"output, or have them removed by --remove (in Python remove=True)"
        )


def _had_images(known: Known, folder: bytes) -> bool:
    return any(file.path.startswith(folder + b"/") for file in known.files)


class _Lost:
    """The contents that have not been found in the source, as they become fewer."""

    def __init__(self, known: Known, *, ask: bool) -> None:
        self.digests = known.contents()
        self.foreign = known.foreign()
        self.of = len(self.digests)
        self._ask = ask

    def less(self, digest: bytes) -> None:
        """Count a content as found."""
        self.digests.discard(digest)
        self.foreign.pop(digest, None)

    def too_many(self) -> bool:
        """Whether they are more than go without a question."""
        enough = 0 if self._ask or self.foreign else self.of / 2
        return len(self.digests) > enough


def require_source(source: str, listing: Sequence[ImageReference]) -> None:
    """See that the images are still there: a drive that was pulled out says nothing of them."""
    if not any(image.exists() for image in listing):
        raise SourceError(
            f"{source}: its images vanished while they were read; what is embedded is kept: make "
            f"them available again, then run the same command"
        )


def require_rows(known: Known, listed: Sequence[Listed], things: str = "images") -> None:
    """See that something can be sealed; everything listed has been looked at."""
    first = None
    for image in listed:
        file = known.found(image.stat)
        if file is not None and not file.reason:
            return
        first = first or file
    # A unit with vectors is of another source, or of images that cannot be read now.
    useless = [one for one in known.units if not one.keys]
    Output.at(known.out).drop(units.discard(units.folder_of(known.out), useless))
    reason = "" if first is None else f"; the first is {os.fsdecode(first.path)}: {first.reason}"
    raise SourceError(f"none of the {len(listed)} {things} can be used{reason}")


def afresh(
    embedding: Embedding, out: Path, source: str, recipe: str, remedy: str
) -> tuple[Known, list[Known]]:
    """What is known for a file that is made anew, and everything of which images could be lost.

    Unfinished work of other settings is left out; what a killed run with these left is still good.
    The file that is going to be replaced counts for its images, if it can be read at all.
    """
    unfinished = units.verified(units.folder_of(out))
    others = {
        one.path.name
        for one in unfinished
        if not one.origin.fits(embedding.origin())
        or (one.has_views and not one.origin.augmentation.joins(recipe))
    }
    known = Known(out, source=source, fresh=True, without=others, remedy=remedy, before=unfinished)
    every = {one.path.name for one in unfinished}
    try:
        return known, [known, Known(out, source=source, without=every, before=unfinished)]
    except FeatureFileError:
        return known, [known]
