"""Everything that a source was understood to be: its images, and what was passed over."""

import collections
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

from ...features.layout import SPLIT_NAMES
from .image import ImageReference

_log = logging.getLogger("headstart")

Source = str | os.PathLike[str]


@dataclass(frozen=True)
class Listing(Sequence[ImageReference]):
    """The images of a source, in its order, as `scan` gives them; a sequence of references.

    It is a source itself, so that what was looked at is what is embedded.
    """

    name: str
    """What the paths of the images are relative to, as feature files record it."""
    images: Sequence[ImageReference] = field(repr=False)
    by_name: bool = False
    """Whether it is no more than images that were named one by one."""
    notes: Sequence[str] = ()
    """Lines about images that one might miss."""
    label_notes: Sequence[str] = ()
    """Lines about labels, splits and groups that may be other than one thinks."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """How many files are not taken, by what they are."""
    unlisted: Sequence[bytes] = ()
    """Paths of folders, relative to the source, of which it could not be told what is in them."""

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, place: int) -> ImageReference: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[ImageReference]: ...
    def __getitem__(self, place: int | slice) -> ImageReference | Sequence[ImageReference]:
        return self.images[place]

    def __iter__(self) -> Iterator[ImageReference]:
        return iter(self.images)

    @property
    def classes(self) -> dict[str, dict[str, int]]:
        """How many images of each split each label has, the commonest label first."""
        found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        for image in self.images:
            if image.label is not None:
                found[image.label][image.split] += 1
        return {
            label: dict(counts)
            for label, counts in sorted(found.items(), key=lambda one: (-one[1].total(), one[0]))
        }

    @property
    def splits(self) -> dict[str, int]:
        """How many images each split has."""
        counts = collections.Counter(image.split for image in self.images)
        return {split: counts[split] for split in SPLIT_NAMES if split in counts}

    @property
    def groups(self) -> dict[str, int]:
        """How many images each group has."""
        return dict(collections.Counter(image.group for image in self.images if image.group))

    def without_labels(self) -> "Listing":
        """The same images, none with a label or a group."""
        images = [replace(image, label=None, group=None) for image in self.images]
        return replace(self, images=images, label_notes=())


def log_notes(listing: Listing, *, labels: bool = True) -> None:
    """Log what one might not expect of a source; of its `labels`, too."""
    for note in (*listing.notes, *(listing.label_notes if labels else ())):
        # A name that is no text goes into no log.
        text = f"{listing.name}: {note}".encode("utf-8", "backslashreplace").decode("utf-8")
        _log.warning("%s", text)
