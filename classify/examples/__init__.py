"""A feature file -> its labelled images, and what was left out."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...features.errors import TrainingError, count
from ...features.layout import NO_GROUP, NO_LABEL
from ...features.store import FeatureStore
from ..scores.groups import Grouping, together
from ..solver.rows import Matrix, taken
from .augmented import Augmented
from .stored import unusable_rows, vectors


@dataclasses.dataclass(frozen=True)
class Examples:
    """Labelled images, a row each.

    Their classes are numbers: an array of names has the length of the longest for each row, which
    may be a hundred thousand characters.
    """

    features: Matrix
    """(N, D) float32, of the images themselves; in the file, if they are too many."""
    codes: NDArray[np.intp]
    """(N,) classes, as indices into `names`."""
    identities: NDArray[np.uint64]
    """(N,): which rows are of the same bytes (`contents`)."""
    groups: NDArray[np.intp]
    """(N,): which rows belong together, by equal bytes and the file's own groups; after `grouped`
    by being near-copies too."""
    paths: NDArray[np.bytes_]
    """(N,) relative to the source."""
    names: list[str]
    """The classes of the file that they are from, sorted; some may have no row here."""
    augmented: Augmented | None = None
    """Their further views, if they have any. They are trained on; whatever counts or groups images
    has no use for them."""
    grouping: Grouping | None = None
    """How their near-copies were found, after `grouped`."""

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "Examples":
        """Some of them; of all of them there is no copy."""
        every = np.ones(len(self), bool) if chosen.dtype == np.bool_ else np.arange(len(self))
        if np.array_equal(chosen, every):
            return self
        return Examples(
            taken(self.features, chosen),
            self.codes[chosen],
            self.identities[chosen],
            self.groups[chosen],
            self.paths[chosen],
            self.names,
            self.augmented and self.augmented.among(chosen, len(self)),
        )

    def __len__(self) -> int:
        return len(self.codes)

    def grouped(self) -> "Examples":
        """The same rows, with near-copies among them in one group: they are one image.

        Each side of a split is grouped by itself, so that the other has no say in its folds.
        """
        if not len(self):
            return self
        found = Grouping(self.features, self.identities, self.groups, self.codes)
        return dataclasses.replace(self, groups=found.groups, grouping=found)

    @property
    def sizes(self) -> NDArray[np.intp]:
        """For each of `names`, how many groups have a row of it."""
        pairs = np.unique(np.stack([self.groups, self.codes]), axis=1)
        return np.bincount(pairs[1], minlength=len(self.names))

    @property
    def labels(self) -> NDArray[np.object_]:
        """(N,) class names, as Python texts."""
        labels: NDArray[np.object_] = np.array(self.names, object)[self.codes]
        return labels

    @property
    def classes(self) -> list[str]:
        """The names that a row here has, sorted."""
        return [self.names[code] for code in np.unique(self.codes).tolist()]

    def codes_among(self, classes: Sequence[str]) -> NDArray[np.intp]:
        """(N,) classes as indices into another list of them; -1 where it lacks one."""
        places = {name: place for place, name in enumerate(classes)}
        codes = np.array([places.get(name, -1) for name in self.names], np.intp)
        return codes[self.codes]


@dataclasses.dataclass(frozen=True)
class Labelled:
    """What of a feature file can be learned from, or scored."""

    examples: Examples
    splits: NDArray[np.int8]
    """(N,) of the examples."""
    unlabelled: int
    """Rows that were left out because they have no label."""
    contradictory: Examples
    """Rows that were left out because others of the same bytes have another label."""

    @property
    def notes(self) -> list[str]:
        """Which rows were left out and why, in sentences."""
        notes = []
        if self.unlabelled:
            notes.append(f"{self.unlabelled} images without a label are left out")
        return notes + about_contradictory(self.contradictory)


def about_contradictory(examples: Examples) -> list[str]:
    """What to say of rows that were left out for their labels; nothing if there are none."""
    if not len(examples):
        return []
    reason = "files of the same bytes have different labels"
    return [f"{len(examples)} images are left out, because {reason}"]


def labelled(store: FeatureStore) -> Labelled:
    """All rows with a label that can be true."""
    rows = (store.labels != NO_LABEL) & (store.views == 0)
    if not rows.any():
        made = store.provenance
        raise TrainingError(
            f"{store.name}: none of its {count(store.images, made.noun)} has a label; "
            f"{made.labelling}"
        )
    features = vectors(store, rows)
    # The file sorts names by their bytes, Python by their characters.
    names = sorted(store.label_names)
    places = {name: place for place, name in enumerate(names)}
    codes = np.array([places[name] for name in store.label_names], np.intp)
    paths = np.asarray(store.raw_paths)[rows]
    augmented = Augmented.of(store, rows)
    _require_finite(store, features, paths)
    _require_finite(store, augmented.features, paths[augmented.image])
    identities = contents(store.digests[rows])
    codes = codes[store.labels[rows]]
    own = store.groups[rows]
    alone = np.arange(len(own)) + own.max(initial=NO_GROUP) + 1
    belonging = together(identities, np.where(own == NO_GROUP, alone, own))
    examples = Examples(features, codes, identities, belonging, paths, names, augmented)
    contradictory = _contradictory(examples)
    usable = ~contradictory
    return Labelled(
        examples.rows(usable),
        store.splits[rows][usable],
        store.images - len(examples),
        examples.rows(contradictory),
    )


def _require_finite(store: FeatureStore, features: Matrix, paths: NDArray[np.bytes_]) -> None:
    bad = unusable_rows(features)
    if bad.any():
        raise TrainingError(
            f"{store.name}: {int(bad.sum())} of its vectors have NaN or infinite values, or far "
            f"too large ones, the first that of {os.fsdecode(paths[bad][0])}; extract the "
            f"images again with --fresh, in f32 if it was bf16"
        )


def _contradictory(examples: Examples) -> NDArray[np.bool_]:
    """Rows whose bytes appear under another label too: either label may be the true one."""
    pairs = np.unique(np.stack([examples.identities, examples.codes.astype(np.uint64)]), axis=1)
    images, labels = np.unique(pairs[0], return_counts=True)
    return np.isin(examples.identities, images[labels > 1])


def contents(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The first 8 bytes of each SHA-256, (N, 32) uint8 -> (N,) uint64: equal for equal images.

    Among a million images two different ones share 8 bytes with a chance of 3 in 10**8.
    """
    first = np.ascontiguousarray(digests[:, :8])
    numbers: NDArray[np.uint64] = first.view(np.uint64).reshape(-1)
    return numbers
