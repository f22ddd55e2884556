"""A review of a head -> what stands in a report, and which images it would like to show."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from ...classify import Review, Suspect
from ...classify.studies.review import Copy
from ...features.layout import NO_LABEL, SPLIT_NAMES
from ...features.store import FeatureStore
from .atlas import Atlas
from .confusion import Cell, Confusion
from .thumbnails import Thumbnails, Wish

_MISTAKES: Final = 24
_SUSPECTS: Final = 24
_COPIES: Final = 16
_UNFAMILIAR: Final = 18
_CLASSES: Final = 1000
"""Rows of the table of classes: those found worst."""
_SKIPPED: Final = 30
"""Skipped images that are named, of each reason."""
_REASONS: Final = 20
NO_LABEL_NAME: Final = "no label"


@dataclasses.dataclass(frozen=True)
class Image:
    """An image, and what is known of it; a row of None is not in the feature file."""

    row: int | None
    path: str
    label: str
    predicted: str = ""
    confidence: float = 0.0


@dataclasses.dataclass(frozen=True)
class Pair:
    """A near-copy: two images, the splits that they are in, and how much they are alike."""

    copy: Copy
    one: Image
    other: Image
    splits: tuple[str, str]

    @property
    def wish(self) -> tuple[int, int]:
        """The picture of their difference."""
        return self.copy.row, self.copy.other


@dataclasses.dataclass(frozen=True)
class OfClass:
    """What there is to say of one class."""

    number: int
    name: str
    precision: float
    recall: float
    f1: float
    images: int


class Contents:
    """The parts of a report, in its order.

    Attributes
    ----------
    mistakes : list of Image
        The most confident ones.
    suspects : list of (Image, Suspect)
        Labels that may be wrong; the label that the looks speak for is the predicted one.
    copies : list of Pair
        Near-copies, those across the split first.
    confusion : Confusion
        Which class is taken for which.
    classes : list of OfClass
        The class found worst first.
    unfamiliar : list of Image
        What is unlike the training images.
    skipped : list of (str, int, list of str)
        Why images were skipped, how many, and the first of them.
    atlas : Atlas
        The map.
    """

    def __init__(self, review: Review, store: FeatureStore) -> None:
        self._review, self._store = review, store
        self._place = {row: place for place, row in enumerate(review.rows.tolist())}
        self._names, self._labels = store.label_names, store.labels
        self.mistakes = self._mistakes()
        self.mistakes_in_all = review.scores.rows - sum(
            number for truth, predicted, number in review.scores.confusion if truth == predicted
        )
        self.suspects = [(self._suspect(one), one) for one in (review.suspects or ())[:_SUSPECTS]]
        self.copies = [self._pair(one) for one in review.copies[:_COPIES]]
        self.across = sum(one.splits for one in review.copies)
        self.differing = sum(one.labels for one in review.copies)
        self.confusion = Confusion.of(review.scores, review)
        self.classes = self._classes()
        self.unfamiliar = [self.image(row) for row in review.unfamiliar[:_UNFAMILIAR].tolist()]
        self.skipped = self._skipped()
        points = [self.image(row) for row in review.points.tolist()]
        without = store.labels[review.points] == NO_LABEL
        self.atlas = Atlas.of(
            review.places,
            [point.row for point in points],
            [None if no else point.label for no, point in zip(without, points, strict=True)],
            [bool(point.predicted) and point.predicted != point.label for point in points],
        )
        self.points = [points[place] for place in self.atlas.order]

    def image(self, row: int) -> Image:
        """An image of the feature file, with its prediction if it was scored."""
        label = self._labels[row]
        name = NO_LABEL_NAME if label == NO_LABEL else self._names[label]
        place = self._place.get(row)
        if place is None:
            return Image(row, self._store.paths[row], name)
        return self.at(place)

    def at(self, place: int) -> Image:
        """An image that was scored, by its place in `Review.rows`."""
        found = self._review
        row = int(found.rows[place])
        return Image(
            row,
            self._store.paths[row],
            found.names[found.truth[place]],
            found.names[found.predicted[place]],
            float(found.confidence[place]),
        )

    def wishes(self) -> Iterator[Wish]:
        """The images that it would like to show, the most telling first."""
        yield from self._rows(self.mistakes)
        yield from self._rows(image for image, _ in self.suspects)
        for pair in self.copies:
            yield from self._rows((pair.one, pair.other))
            yield pair.wish
        # Of each cell the first, then of each the second ...
        cells = self.confusion.opened
        for images in itertools.zip_longest(*(cell.places for cell in cells)):
            yield from (int(self._review.rows[place]) for place in images if place is not None)
        yield from self._rows(self.unfamiliar)
        yield from self._rows(self.points)

    def shown(self, cell: Cell, thumbs: Thumbnails) -> list[Image]:
        """The images of a cell that can be seen, or of which it is known why not."""
        images = map(self.at, cell.places)
        return [image for image in images if image.row is not None and thumbs.has(image.row)]

    @staticmethod
    def _rows(images: Iterable[Image]) -> Iterator[int]:
        return (image.row for image in images if image.row is not None)

    def _mistakes(self) -> list[Image]:
        review = self._review
        if len(review.rows):
            return [self.at(place) for place in review.mistakes[:_MISTAKES].tolist()]
        return [
            Image(
                review.row_of.get(one["path"]),
                one["path"],
                one["label"],
                one["predicted"],
                one["confidence"],
            )
            for one in review.scores.mistakes
        ]

    def _suspect(self, one: Suspect) -> Image:
        row = self._review.row_of.get(one.path)
        return Image(row, one.path, one.given, one.suggested, one.probability or 0.0)

    def _pair(self, copy: Copy) -> Pair:
        splits = [SPLIT_NAMES[self._store.splits[row]] for row in (copy.row, copy.other)]
        one, other = self.image(copy.row), self.image(copy.other)
        return Pair(copy, one, other, (splits[0], splits[1]))

    def _classes(self) -> list[OfClass]:
        every = [
            OfClass(number, name, one["precision"], one["recall"], one["f1"], int(one["support"]))
            for number, (name, one) in enumerate(self._review.scores.per_class.items())
        ]
        every.sort(key=lambda one: (not one.images, one.f1, -one.images))
        return every[:_CLASSES]

    def _skipped(self) -> list[tuple[str, int, list[str]]]:
        by_reason: dict[str, list[str]] = collections.defaultdict(list)
        for one in self._store.skipped:
            by_reason[one.reason].append(one.path)
        frequent = sorted(by_reason.items(), key=lambda item: -len(item[1]))[:_REASONS]
        return [(reason, len(paths), paths[:_SKIPPED]) for reason, paths in frequent]
