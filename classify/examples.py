"""A feature file -> the labelled rows to train on and to test on, and what was left out."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from ..features.errors import TrainingError
from ..features.layout import NO_LABEL, TEST, VALIDATION
from ..features.rules import unusable
from ..features.store import FeatureStore


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
    """(N,): which rows are one image (`contents`)."""
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
            self.paths[chosen],
            self.names,
        )

    def __len__(self) -> int:
        return len(self.codes)

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


def labelled(store: FeatureStore) -> tuple[Examples, NDArray[np.int8], list[str]]:
    """All rows with a label that can be true, the split of each, and notes of what was left out."""
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
    examples = Examples(
        # scikit-learn would compute means and products of float16 in float16.
        features.astype(np.float32, copy=False),
        codes[store.labels[rows]],
        contents(store.digests[rows]),
        np.asarray(store.raw_paths)[rows],
        names,
    )
    _require_finite(examples, store)
    splits, notes = store.splits[rows], []
    if len(examples) < len(store):
        notes.append(f"{len(store) - len(examples)} images without a label are left out")
    contradictory = _contradictory(examples)
    if contradictory.any():
        notes.append(
            f"{int(contradictory.sum())} images are left out, because files of the same bytes have "
            f"different labels"
        )
        examples, splits = examples.rows(~contradictory), splits[~contradictory]
    return examples, splits, notes


def _require_finite(examples: Examples, store: FeatureStore) -> None:
    bad = unusable(examples.features)
    if bad.any():
        raise TrainingError(
            f"{store.path}: {int(bad.sum())} of its vectors have NaN or infinite values, or far "
            f"too large ones, the first that of {os.fsdecode(examples.paths[bad][0])}; extract the "
            f"images again with --fresh, in f32 if it was bf16"
        )


def training_and_test(store: FeatureStore) -> tuple[Examples, Examples | None, list[str]]:
    """Examples to train on, examples of the test split if there is one, notes of what was left out.

    Refuses a file that leaves nothing to train on, or only one class.
    """
    examples, splits, notes = labelled(store)
    if (splits == VALIDATION).any():
        notes.append(
            f"{int((splits == VALIDATION).sum())} images of the validation split are trained on "
            f"too: regularisation is chosen by cross-validation"
        )
    test = None
    in_test = splits == TEST
    if in_test.any():
        examples, test = examples.rows(~in_test), examples.rows(in_test)
        leaked = np.isin(examples.identities, test.identities)
        if leaked.any():
            notes.append(
                f"{int(leaked.sum())} training images are in the test split too; they are left out "
                f"of the training"
            )
            examples = examples.rows(~leaked)
    _require_classes(store, examples, test)
    return examples, test, notes


def _require_classes(store: FeatureStore, examples: Examples, test: Examples | None) -> None:
    names = examples.classes
    if test is not None and not names:
        raise TrainingError(
            f"{store.path}: all {len(test)} labelled images are in the test split; some must be "
            f"left to train on"
        )
    if len(names) < 2:
        raise TrainingError(
            f"{store.path}: only one class, {', '.join(map(repr, names))}, among the "
            f"{len(examples)} labelled training images; a classifier needs at least two"
        )
    unseen = sorted(set(test.classes) - set(names)) if test is not None else []
    if unseen:
        raise TrainingError(
            f"{store.path}: class {unseen[0]!r} has images in the test split and none to train on; "
            f"add training images of it or take it out"
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


def rarest_class(labels: NDArray[Any], identities: NDArray[np.uint64]) -> tuple[Any, int]:
    """The class with the fewest distinct images, and how many it has."""
    _, first = np.unique(identities, return_index=True)
    classes, counts = np.unique(labels[first], return_counts=True)
    return classes[counts.argmin()].item(), int(counts.min())


def stratified_folds(
    labels: NDArray[Any],
    identities: NDArray[np.uint64],
    folds: int,
    seed: int,
    names: Sequence[str] | None = None,
) -> list[NDArray[np.intp]]:
    """Cut rows into folds with equal shares of each class: the rows that each fold holds out.

    Every row is in one fold, rows of one identity in the same. Where a class has fewer distinct
    images than `folds`, there are only as many folds as it has images. The (N,) labels are classes
    as indices into `names`, or if there are none the names themselves.
    """
    # Splitting distinct images and spreading the result over their copies is what
    # StratifiedGroupKFold does too, but in a Python loop over every image.
    _, first, spread = np.unique(identities, return_index=True, return_inverse=True)
    rarest, images = rarest_class(labels, identities)
    if images < 2:
        name = rarest if names is None else names[rarest]
        raise TrainingError(
            f"class {name!r} has only one distinct training image, so nothing can be held out of "
            f"it; add images or leave the class out"
        )
    splitter = StratifiedKFold(min(folds, images), shuffle=True, random_state=seed)
    return [
        np.flatnonzero(np.isin(spread, held_out))
        for _, held_out in splitter.split(first, labels[first])
    ]
