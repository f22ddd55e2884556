"""A feature file -> the labelled rows to train on and to test on, and what was left out."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..features.errors import TrainingError, WrongUsage, because, listed
from ..features.layout import NO_GROUP, NO_LABEL, TEST, VALIDATION
from ..features.rules import unusable
from ..features.store import FeatureStore
from .scores.groups import groups, together
from .scores.seen import Seen


@dataclasses.dataclass(frozen=True)
class Examples:
    """Labelled rows.

    Their classes are numbers: an array of names has the length of the longest for each row, which
    may be a hundred thousand characters.
    """

    features: NDArray[np.floating]
    """(N, D) float32."""
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

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "Examples":
        """Some of them."""
        return Examples(
            self.features[chosen],
            self.codes[chosen],
            self.identities[chosen],
            self.groups[chosen],
            self.paths[chosen],
            self.names,
        )

    def __len__(self) -> int:
        return len(self.codes)

    def grouped(self) -> "Examples":
        """The same rows, with near-copies among them in one group: they are one image.

        Each side of a split is grouped by itself, so that the other has no say in its folds.
        """
        if not len(self):
            return self
        found = groups(self.features, self.identities, self.groups, self.codes)
        return dataclasses.replace(self, groups=found)

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
    notes: list[str]
    """Which rows were left out and why, in sentences."""
    contradictory: Examples
    """Rows that were left out because others of the same bytes have another label."""


def labelled(store: FeatureStore) -> Labelled:
    """All rows with a label that can be true."""
    rows = store.labels != NO_LABEL
    if not rows.any():
        raise TrainingError(
            f"{store.path}: none of its {len(store)} images has a label; put the images of each "
            f"class into a folder of its own, or give a manifest with a 'label' column, and run "
            f"`headstart extract` again (nothing is embedded twice)"
        )
    features = store.features if rows.all() else store.features[rows]
    # The file sorts names by their bytes, Python by their characters.
    names = sorted(store.label_names)
    places = {name: place for place, name in enumerate(names)}
    codes = np.array([places[name] for name in store.label_names], np.intp)
    # scikit-learn would compute means and products of float16 in float16.
    features = features.astype(np.float32, copy=False)
    paths = np.asarray(store.raw_paths)[rows]
    _require_finite(store, features, paths)
    identities = contents(store.digests[rows])
    codes = codes[store.labels[rows]]
    own = store.groups[rows]
    alone = np.arange(len(own)) + own.max(initial=NO_GROUP) + 1
    belonging = together(identities, np.where(own == NO_GROUP, alone, own))
    examples = Examples(features, codes, identities, belonging, paths, names)
    notes = []
    if len(examples) < len(store):
        notes.append(f"{len(store) - len(examples)} images without a label are left out")
    contradictory = _contradictory(examples)
    if contradictory.any():
        notes.append(
            f"{int(contradictory.sum())} images are left out, because files of the same bytes have "
            f"different labels"
        )
    usable = ~contradictory
    return Labelled(
        examples.rows(usable), store.splits[rows][usable], notes, examples.rows(contradictory)
    )


def _require_finite(
    store: FeatureStore, features: NDArray[np.float32], paths: NDArray[np.bytes_]
) -> None:
    bad = unusable(features)
    if bad.any():
        raise TrainingError(
            f"{store.path}: {int(bad.sum())} of its vectors have NaN or infinite values, or far "
            f"too large ones, the first that of {os.fsdecode(paths[bad][0])}; extract the "
            f"images again with --fresh, in f32 if it was bf16"
        )


@dataclasses.dataclass(frozen=True)
class Parted:
    """What to train on, and what to score."""

    training: Examples
    test: Examples | None
    """Of the test split, if there is one."""
    seen: Callable[[], Seen]
    """Tells near-copies of what is trained on; made when it is first asked for."""
    notes: list[str]
    """What was left out, and what else one has to know of the scores."""
    contradictory: Examples
    """Rows that were left out because others of the same bytes have another label."""


def training_and_test(
    store: FeatureStore, min_images: int = 1, *, seed: int = 0, split: bool = True
) -> Parted:
    """Examples to train on, and those of the test split if there is one and `split`.

    Classes of fewer than `min_images` distinct training images are left out of both. Refuses a file
    that leaves nothing to train on, or only one class, with what was left out and why.
    """
    if min_images < 1:
        raise WrongUsage(f"min_images {min_images}: at least 1")
    usable = labelled(store)
    examples, splits, notes = usable.examples, usable.splits, list(usable.notes)
    in_test = (splits == TEST) & split
    test = examples.rows(in_test) if in_test.any() else None
    training = examples.rows(~in_test)
    if test is not None:
        leaked = np.isin(training.identities, test.identities)
        if leaked.any():
            notes.append(
                f"{int(leaked.sum())} training images are in the test split too; they are left out "
                f"of the training"
            )
            training = training.rows(~leaked)
    own_groups = training.groups  # numbered like those of the test images
    training = training.grouped()
    if min_images > 1:
        training, test = _large_classes(training, test, min_images, notes)
    _require_classes(store, training, test, notes)
    seen = functools.cache(functools.partial(Seen.of, training.features, seed, training.codes))
    if test is not None:
        test = _fresh(training, test, seen(), own_groups, notes)
    if split and (splits == VALIDATION).any():
        notes.append(
            f"{int((splits == VALIDATION).sum())} images of the validation split are trained on "
            f"too: regularisation is chosen by cross-validation"
        )
    return Parted(training, test, seen, notes, usable.contradictory)


def _large_classes(
    training: Examples, test: Examples | None, fewest: int, notes: list[str]
) -> tuple[Examples, Examples | None]:
    sizes = training.sizes
    small = np.flatnonzero(sizes < fewest)
    present = np.unique(np.concatenate([training.codes, [] if test is None else test.codes]))
    small = small[np.isin(small, present)]
    if not len(small):
        return training, test
    named = listed([f"{training.names[code]!r} ({sizes[code]})" for code in small.tolist()])
    out = np.isin(training.codes, small)
    out_of_test = np.zeros(0, bool) if test is None else np.isin(test.codes, small)
    notes.append(
        f"{int(out.sum() + out_of_test.sum())} images are left out, because their classes have "
        f"fewer than {fewest} distinct training images: {named}"
    )
    return training.rows(~out), None if test is None else test.rows(~out_of_test)


def _fresh(
    training: Examples,
    test: Examples,
    seen: Seen,
    own_groups: NDArray[np.intp],
    notes: list[str],
) -> Examples | None:
    """The test images that tell something: of which no copy, and none of their group, is known."""
    several = [
        (seen.copies(test.features), "look like near-copies of training images"),
        (np.isin(test.groups, own_groups), "are of one group with training images"),
    ]
    known = np.zeros(len(test), bool)
    for rows, what in several:
        fresh = rows & ~known
        if fresh.any():
            notes.append(
                f"{int(fresh.sum())} of {len(test)} test images {what} and are not scored "
                f"({os.fsdecode(test.paths[fresh][0])} is one)"
            )
        known |= rows
    left = test.rows(~known)
    if set(left.classes) & set(training.classes):
        return left.grouped()
    notes.append("no test image of a class that can be trained on is left to score")
    return None


def _require_classes(
    store: FeatureStore, examples: Examples, test: Examples | None, notes: list[str]
) -> None:
    names = examples.classes
    if test is not None and not names:
        raise TrainingError(
            f"{store.path}: all {len(test)} labelled images are in the test split; some must be "
            f"left to train on{because(notes)}"
        )
    if len(names) < 2:
        one = f"only one class, {names[0]!r}," if names else "no class"
        raise TrainingError(
            f"{store.path}: {one} among the {len(examples)} labelled training images; a classifier "
            f"needs at least two{because(notes)}"
        )
    if test is not None and not set(test.classes) & set(names):
        raise TrainingError(
            f"{store.path}: no image of the test split is of a class that can be trained on "
            f"({listed(list(map(repr, names)))}){because(notes)}"
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
