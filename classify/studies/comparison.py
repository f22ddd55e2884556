"""Feature files of the same images -> which of them a head does best with."""

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...features.durable.table import in_html
from ...features.errors import TrainingError, WrongUsage, because, count
from ...features.journal.progress import part_of
from ...features.provenance import Given
from ...features.store import FeatureStore
from ..crossfit import cross_fit
from ..examples import Examples, labelled
from ..examples.parted import apart, large_classes, require_classes
from ..examples.stored import require_all_in_memory
from ..experiment import require_possible, task_of
from ..folds import folds_of
from ..heads import recipe_of
from ..heads.recipe import Task
from ..scores.evaluation import score
from ..scores.groups import together
from ..scores.intervals import in_percent
from ..scores.leaderboard import Standing, ranked

RANDOM_WEIGHTS: Final = "random weights"
RAW_PIXELS: Final = "raw pixels"


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """Feature files side by side.

    Attributes
    ----------
    standings : tuple of Standing
        Best first.
    images : int
        That all files have; the same folds were used for all.
    folds : int
        Of the cross-validation.
    majority : float
        Accuracy of always predicting the commonest class.
    notes : tuple of str
        What was left out and why, in sentences.
    noun : str
        What the rows of the files are of: ``"image"`` or ``"example"``.
    """

    standings: tuple[Standing, ...]
    images: int
    folds: int
    majority: float
    notes: tuple[str, ...]
    noun: str = "image"

    def __repr__(self) -> str:
        lines = [
            f"\n  {one.name}: {in_percent(one.accuracy, one.interval)}" for one in self.standings
        ]
        return (
            f"Comparison({self.images:,} {self.noun}s, {self.folds}-fold cross-validation, "
            f"commonest class {self.majority:.1%}:{''.join(lines)})"
        )

    def _repr_html_(self) -> str:
        rows = [
            (
                one.name,
                in_percent(one.accuracy, one.interval),
                "{:.1f} points ({:.1f} to {:.1f})".format(*(100 * far for far in one.behind))
                if place
                else "",
                f"{one.log_loss:.3f}",
            )
            for place, one in enumerate(self.standings)
        ]
        caption = (
            f"{count(self.images, 'image')}, {self.folds}-fold cross-validation; always the "
            f"commonest class: {self.majority:.1%}"
        )
        return in_html(caption, rows, ("", "accuracy", "behind the best", "log loss"))


def compare(
    stores: Sequence[FeatureStore],
    *,
    pixels: Callable[[list[bytes]], NDArray[np.floating]] | None = None,
    folds: int = 5,
    seed: int = 0,
    min_images: int = 1,
) -> Comparison:
    """Rank feature files of the same images by the cross-validated accuracy of a logistic head.

    Images of the test split stay out, so that choosing a backbone leaves it untouched.

    Parameters
    ----------
    stores : sequence of FeatureStore
        Images are matched by their content. Where vectors of one of the files were given, examples
        are matched by their ids: what is known of their content is the vector.
    pixels : callable, optional
        From the paths of n images, as the first store has them, to their (n, D) pixels: a baseline
        without any backbone.
    folds : int, default=5
        As for `train`.
    seed : int, default=0
        As for `train`.
    min_images : int, default=1
        As for `train`.

    Raises
    ------
    TrainingError
        If the files have no images in common, or disagree about a label.
    WrongUsage
        If there is nothing to compare.
    """
    if len(stores) + (pixels is not None) < 2:
        raise WrongUsage("only one feature file: name at least two, or the images with --pixels")
    require_possible(folds, seed, min_images)
    require_all_in_memory(stores, "comparing files")
    notes: list[str] = []
    by_id = any(isinstance(store.provenance, Given) for store in stores)
    every = [_distinct(store, notes, by_id=by_id) for store in stores]
    first, *others = every
    noun = "example" if by_id else "image"
    common = first.identities
    union = np.unique(np.concatenate([examples.identities for examples in every]))
    for store, examples in zip(stores[1:], others, strict=True):
        common = np.intersect1d(common, examples.identities)
        if not len(common):
            raise TrainingError(
                f"{store.name}: has no {noun} in common with the files before it; only files of "
                f"the same {noun}s{' (by their ids)' * by_id} can be compared"
            )
    if len(union) > len(common):
        notes.append(f"{len(union) - len(common)} {noun}s are not in all files and are left out")
    # What any of the files has a group for belongs together. Near-copies are those of one of them:
    # vectors of random weights see some where there are none.
    groups = together(*(_at(examples, common).groups for examples in every))
    eyes = next((place for place, store in enumerate(stores) if not _is_random(store)), 0)
    first = _at(first, common)
    features = _at(every[eyes], common).features
    alike = dataclasses.replace(first, features=features, groups=groups).grouped()
    alike, _ = large_classes(alike, None, min_images, notes) if min_images > 1 else (alike, None)
    common = alike.identities
    first = dataclasses.replace(_at(first, common), groups=alike.groups)
    names = first.classes
    if len(names) < 2:
        raise TrainingError(
            f"{stores[0].name}: all images that it has in common with the other files are of class "
            f"{names[0]!r}; at least two classes are needed{because(notes)}"
        )
    cut = folds_of(stores[0], first, folds, seed, notes, scored=True)
    rows = np.sort(np.concatenate(cut))
    codes = first.codes_among(names)
    counts = np.bincount(codes[rows])
    majority = names[int(counts.argmax())]

    def entry(name: str, baseline: str, task: Task) -> tuple[Standing, NDArray[np.bool_]]:
        started = time.perf_counter()
        with part_of(name):
            found = cross_fit(recipe_of("logistic"), task, cut, honest=True).probabilities[rows]
        standing = Standing.of(
            name,
            score(scored, found, names, majority=majority, basis=""),
            seconds=time.perf_counter() - started,
            dimension=task.features.shape[1],
            baseline=baseline,
        )
        return standing, found.argmax(axis=1) == codes[rows]

    scored = first.rows(rows)
    entries = []
    for store, examples in zip(stores, every, strict=True):
        examples = _at(examples, common)
        _require_same_labels(stores[0], first, store, examples)
        baseline = RANDOM_WEIGHTS if _is_random(store) else ""
        entries.append(entry(store.name, baseline, task_of(examples, names, False, seed)))
    if pixels is not None:
        bare = Task(pixels(first.paths.tolist()), codes, np.array(names), balanced=False, seed=seed)
        entries.append(entry(RAW_PIXELS, RAW_PIXELS, bare))
    return Comparison(
        standings=ranked(entries, scored.groups, lambda one: (-one.accuracy, one.log_loss)),
        images=len(rows),
        folds=len(cut),
        majority=float(counts.max() / len(rows)),
        notes=tuple(map(stores[-1].provenance.worded, notes)),
        noun=stores[-1].provenance.noun,
    )


def _is_random(store: FeatureStore) -> bool:
    return bool(store.environment.get("weights", {}).get("kind") == "random")


def _distinct(store: FeatureStore, notes: list[str], *, by_id: bool) -> Examples:
    """Its training images, each once, in the order of their identities."""
    examples, _, left_out = apart(labelled(store))
    if by_id:
        examples = dataclasses.replace(examples, identities=_of_ids(examples.paths))
    require_classes(store, examples, None, left_out)
    notes += [f"{store.name}: {note}" for note in left_out]
    _, rows = np.unique(examples.identities, return_index=True)
    return examples.rows(rows)


def _of_ids(paths: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """(N,) ids -> (N,) numbers, equal for equal ids."""
    heads = b"".join(hashlib.sha256(path).digest()[:8] for path in paths.tolist())
    return np.frombuffer(heads, np.uint64)


def _at(examples: Examples, identities: NDArray[np.uint64]) -> Examples:
    """Those of some images, of distinct ones in order."""
    return examples.rows(np.searchsorted(examples.identities, identities))


def _require_same_labels(
    store: FeatureStore, examples: Examples, other: FeatureStore, theirs: Examples
) -> None:
    differ = np.flatnonzero(examples.codes != theirs.codes_among(examples.names))
    if len(differ):
        row = differ[0]
        one, another = (some.names[some.codes[row]] for some in (examples, theirs))
        path = os.fsdecode(examples.paths[row])
        raise TrainingError(
            f"{store.name} and {other.name} label {len(differ)} images differently: {path} is "
            f"{one!r} in one and {another!r} in the other"
        )
