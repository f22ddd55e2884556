"""Labelled images -> those to train on and those to test on, and what was left out."""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ...features.errors import TrainingError, because, listed
from ...features.layout import TEST, VALIDATION
from ...features.store import FeatureStore
from ..scores.groups import Grouping
from ..scores.seen import Seen
from ..scores.seen import compared as seen_of
from ..solver.rows import Stored
from . import Examples, Labelled, labelled

_FOUND: Final["WeakKeyDictionary[FeatureStore, dict[bool, Grouping]]"] = WeakKeyDictionary()
"""Of the training images of files that are read in blocks, with and without a test split."""


@dataclasses.dataclass(frozen=True)
class Parted:
    """What to train on, and what to score."""

    training: Examples
    test: Examples | None
    """Of the test split, if there is one."""
    known: Examples | None
    """Those of the test split that look like what is trained on, and are not scored."""
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
    usable = labelled(store)
    own, test, notes = apart(usable, split=split)
    training = _grouped(store, own, split=split)
    if min_images > 1:
        training, test = large_classes(training, test, min_images, notes)
    require_classes(store, training, test, notes)
    seen = functools.cache(
        functools.partial(Seen.of, training.features, seed, training.codes, training.grouping)
    )
    known = None
    if test is not None:
        # Numbered like those of the test images.
        groups = own.groups[np.isin(own.codes, training.codes)]
        test, known = _fresh(training, test, seen(), groups, notes)
        notes += _compared(training)
    if split and (usable.splits == VALIDATION).any():
        notes.append(
            f"{int((usable.splits == VALIDATION).sum())} images of the validation split are "
            f"trained on too: regularisation is chosen by cross-validation"
        )
    return Parted(training, test, known, seen, notes, usable.contradictory)


def _grouped(store: FeatureStore, training: Examples, *, split: bool) -> Examples:
    """The same in groups; those of a file that is read in blocks, which take minutes, once."""
    if not isinstance(training.features, Stored) or not len(training):
        return training.grouped()
    found = _FOUND.setdefault(store, {})
    if split not in found:
        known = training.grouped().grouping
        assert known is not None
        found[split] = known
    return dataclasses.replace(training, groups=found[split].groups, grouping=found[split])


def apart(usable: Labelled, *, split: bool = True) -> tuple[Examples, Examples | None, list[str]]:
    """What can be trained on, the test split if there is one and `split`, and what was left out."""
    examples = usable.examples
    in_test = (usable.splits == TEST) & split
    test = examples.rows(in_test) if in_test.any() else None
    training, notes = examples.rows(~in_test), usable.notes
    if test is not None:
        leaked = np.isin(training.identities, test.identities)
        if leaked.any():
            notes.append(
                f"{int(leaked.sum())} training images are in the test split too; they are left out "
                f"of the training"
            )
            training = training.rows(~leaked)
    return training, test, notes


def large_classes(
    training: Examples, test: Examples | None, fewest: int, notes: list[str]
) -> tuple[Examples, Examples | None]:
    """Leave out classes of fewer distinct training images, and note which."""
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
) -> tuple[Examples | None, Examples | None]:
    """The test images that tell something: of which no copy, and none of their group, is known.

    And the others, if there are any.
    """
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
    left, others = test.rows(~known), test.rows(known) if known.any() else None
    if set(left.classes) & set(training.classes):
        return left.grouped(), others
    notes.append("no test image of a class that can be trained on is left to score")
    return None, None


def _compared(training: Examples) -> list[str]:
    """With how many training images test images were compared, unless that is all."""
    images = len(training) if training.grouping is None else len(training.grouping.images)
    compared = seen_of(images, *training.features.shape)
    if compared == images:
        return []
    among = (
        f"among {compared:,} of the {images:,} distinct training images ({compared / images:.0%})"
    )
    return [f"near-copies of test images were sought {among}, drawn at random"]


def require_classes(
    store: FeatureStore, examples: Examples, test: Examples | None, notes: list[str]
) -> None:
    """Refuse what no classifier can be trained on, or scored by, with what was left out and why."""
    names, worded = examples.classes, store.provenance.worded
    if test is not None and not names:
        why = worded(
            f"all {len(test)} labelled images are in the test split; some must be left to train on"
        )
    elif not names:
        why = worded("no class is left to train on; add images, or lower --min-images")
    elif len(names) < 2:
        why = (
            f"only one class, {names[0]!r}, "
            + worded(f"among the {len(examples)} labelled training images")
            + "; a classifier needs at least two"
        )
    elif test is not None and not set(test.classes) & set(names):
        why = worded("no image of the test split is of a class that can be trained on") + (
            f" ({listed(list(map(repr, names)))}), so nothing could be scored; check the labels of "
            f"the test split"
        )
    else:
        return
    raise TrainingError(f"{store.name}: {why}{because(list(map(worded, notes)))}")
