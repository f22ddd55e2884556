"""A head + a feature file -> scores on images that it was not trained on."""

import dataclasses
import os

import numpy as np
from numpy.typing import NDArray

from ...features.errors import TrainingError, WrongUsage, because, count, listed, printable
from ...features.layout import SPLIT_NAMES, TEST
from ...features.store import FeatureStore
from ..examples import Examples, labelled
from ..examples.augmented import averaged, require_fitting_views, require_views
from ..examples.stored import require_room_for
from ..head import Head
from ..heads.prediction import predicted
from ..scores.evaluation import Scores, score


def evaluate(
    head: Head, store: FeatureStore, split: str | None = None, *, tta: bool = False
) -> Scores:
    """Score a head on labelled features that it was not trained on.

    Images that the head was trained on, and near-copies of them, are left out and counted in the
    notes. Images of a class that the head does not know count as mistakes.
    A head keeps no names of groups: what is of one group (a patient, a video) with images that it
    was trained on is left out only if one of those is in this file too.

    Parameters
    ----------
    head : Head
        A trained head.
    store : FeatureStore
        Features of the same provenance.
    split : {None, "train", "validation", "test", "all"}, default=None
        Which rows; by default the test split if the file has one, else all.
    tta : bool, default=False
        Predict an image by the mean over its views in the file (test-time augmentation).

    Raises
    ------
    ProvenanceMismatch
        If head and features were made differently.
    TrainingError
        If no row is left to score, or none has a class that the head knows.
    WrongUsage
        If there is no such split; if `tta` is asked for, and head or file have no views.
    """
    return judged(head, store, split, tta=tta).scores


@dataclasses.dataclass(frozen=True)
class Judged:
    """Scores, and what they are of."""

    scores: Scores
    examples: Examples
    probabilities: NDArray[np.float64]
    """(N, K) of the examples; a column for each class of the head."""


def judged(
    head: Head, store: FeatureStore, split: str | None = None, *, tta: bool = False
) -> Judged:
    """As `evaluate`, with the predictions."""
    head.origin.require(store.origin)
    usable = labelled(store)
    examples, splits, notes = usable.examples, usable.splits, list(usable.notes)
    known = np.isin(examples.identities, head.training_images)
    # Whatever is of one group with a training image of this file.
    akin = np.isin(examples.groups, examples.groups[known]) & ~known
    if split is None:
        split = "test" if (splits == TEST).any() else "all"
    if split != "all" and split not in SPLIT_NAMES[1:]:
        raise WrongUsage(f"split {split!r}: use {', '.join(SPLIT_NAMES[1:])} or all")
    if split != "all":
        chosen = splits == SPLIT_NAMES.index(split)
        examples, akin = examples.rows(chosen), akin[chosen]
    basis = "all labelled images" if split == "all" else f"{split} split"
    if not len(examples):
        raise TrainingError(
            f"{store.name}: nothing to score in {basis}: no labelled image there{because(notes)}"
        )
    if tta:
        require_fitting_views(store, head.origin.augmentation)
    trained_on = np.isin(examples.identities, head.training_images)
    alike = head.seen.copies(examples.features) & ~trained_on & ~akin
    out = trained_on | akin | alike
    if out.all():
        only = (
            "" if trained_on.all() else ", or looks like a copy of one or is of one group with it"
        )
        said = store.provenance.worded(
            f"the head was trained on every image in {basis}{only}, so scoring them would only "
            f"flatter it"
        )
        raise TrainingError(
            f"{store.name}: {said}; `headstart info HEAD` shows its honest scores{because(notes)}"
        )
    for rows, what in (
        (trained_on, "that the head was trained on are left out"),
        (akin, "of one group with images that the head was trained on are left out"),
        (alike, "that look like near-copies of training images are left out"),
    ):
        if rows.any():
            one = f" ({os.fsdecode(examples.paths[rows][0])} is one)" if rows is alike else ""
            notes.append(f"{count(int(rows.sum()), 'image')} {what}{one}")
    examples = examples.rows(~out).grouped()
    if not set(examples.classes) & set(head.label_names):
        raise TrainingError(
            f"{store.name}: the head knows none of its classes, "
            f"{listed([printable(name) for name in examples.classes])}; it knows "
            f"{listed([printable(name) for name in head.label_names])}{because(notes)}"
        )
    if tta:
        require_views(store, examples.augmented, len(examples))
        notes.append(averaged(store))
    require_room_for(store, len(examples), len(head.label_names))
    probabilities = predicted(head.pipeline, examples.features, examples.augmented if tta else None)
    scores = score(
        examples,
        probabilities,
        head.label_names,
        majority=head.majority,
        basis=basis,
        notes=list(map(store.provenance.worded, notes)),
    )
    return Judged(scores, examples, probabilities)
