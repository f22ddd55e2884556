"""A head + a feature file -> what a person would look at to judge it: which images, and how."""

import dataclasses
import os
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...features.errors import TrainingError
from ...features.layout import TEST
from ...features.store import FeatureStore
from ..crossfit import held_out
from ..examples import Examples, labelled
from ..examples.stored import require_in_memory
from ..experiment import Experiment
from ..folds import FEWEST
from ..head import Head
from ..heads import RECIPES, recipe_of
from ..heads.prediction import predicted
from ..scores.evaluation import Scores
from ..scores.groups import Grouping
from ..scores.seen import least
from ..scores.space import drawn
from ..training import out_of_fold
from .atlas import MOST, places
from .audit import Suspect, audited
from .curve import LearningCurve, curve_of
from .evaluate import Judged, judged

_JUDGE: Final = "logistic"
"""Looks for suspects where the head is a given classifier, which cannot be made anew."""
_PARAMETERS: Final = {"C": 1e-2}
"""Its own, with which its search begins."""
_CURVE: Final = 2**26
"""Images x classes x numbers of a vector up to which there is a learning curve. Of 1,000 images of
120 classes, 1,280 numbers each, a single draw takes 80 s on two cores."""


@dataclasses.dataclass(frozen=True)
class Copy:
    """Two images that are one, but for small changes.

    Attributes
    ----------
    row, other : int
        Rows of the feature file; of two across a split, `row` is the test image.
    cosine : float
        Of their vectors (`scores.space`); 1 if they are the same bytes.
    splits : bool
        Whether one is in the test split and the other is not.
    labels : bool
        Whether they have different labels.
    """

    row: int
    other: int
    cosine: float
    splits: bool
    labels: bool


@dataclasses.dataclass(frozen=True)
class Review:
    """What `review` found; rows are those of the feature file.

    Attributes
    ----------
    scores : Scores
        Those of the head if this is the file that it was trained on, else those on this file.
    names : list of K str
        The classes, in the order of ``scores.per_class``.
    rows : ndarray of intp, shape (N,)
        The images that were scored; empty where it cannot be told again which was predicted what.
    truth, predicted : ndarray of intp, shape (N,)
        Their classes, as indices into `names`.
    confidence : ndarray of float64, shape (N,)
        Of those predictions.
    suspects : tuple of Suspect or None
        Labels that may be wrong, in all splits, the most doubtful first (`audit`, with the
        parameters of the head where its scores are of a test split). None if no image can be held
        out to tell; the notes say why.
    row_of : dict of str to int
        Path -> row of the image itself.
    copies : tuple of Copy
        Near-copies that are alike enough for a test image not to be scored (`scores.seen`): those
        across the split first, then those with different labels, then the most alike.
    unfamiliar : ndarray of intp
        Rows of images, labelled or not, that are unlike the training images, the most unlike first.
    points : ndarray of intp, shape (M,)
        Rows of the map: at most 1,000, drawn at random.
    places : ndarray of float32, shape (M, 2)
        Where they are on it, from 0 to 1 (`atlas.places`).
    curve : LearningCurve or None
        None if this is another file, the head a classifier that was handed in, or the curve would
        take minutes; the notes say that.
    notes : tuple of str
        What else one has to know, in sentences.
    """

    scores: Scores
    names: list[str]
    rows: NDArray[np.intp]
    truth: NDArray[np.intp]
    predicted: NDArray[np.intp]
    confidence: NDArray[np.float64]
    suspects: tuple[Suspect, ...] | None
    row_of: dict[str, int]
    copies: tuple[Copy, ...]
    unfamiliar: NDArray[np.intp]
    points: NDArray[np.intp]
    places: NDArray[np.float32]
    curve: LearningCurve | None
    notes: tuple[str, ...]

    @property
    def mistakes(self) -> NDArray[np.intp]:
        """Places in `rows` of those that were predicted wrongly, the most confident first."""
        wrong = np.flatnonzero(self.truth != self.predicted)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")]


def review(head: Head, store: FeatureStore) -> Review:
    """Gather what a report on a head shows.

    Every image is predicted as its score was: by the head itself if it is in the test split or the
    head has never seen the file, else by one that was trained without it. A head that was just
    trained remembers (`Head.unseen`); one that was loaded needs about as long as its training.

    Parameters
    ----------
    head : Head
        A trained head.
    store : FeatureStore
        The file that it was trained on, or another one with labels.

    Raises
    ------
    ProvenanceMismatch
        If head and features were made differently.
    TrainingError
        If the labels of the file leave nothing to score or to cross-validate.
    """
    head.origin.require(store.origin)
    require_in_memory(store, "a report")
    own = head.training_digest == store.content_digest
    experiment = _experiment(head, store, head.folds, tta=head.tta) if own else None
    if experiment is None:
        found = judged(head, store, tta=head.tta)
    else:
        found = _as_scored(head, experiment)
    unseen = _unseen(head, store, found, experiment)
    notes = list(unseen.notes)
    if not len(found.examples):
        notes.append(
            "which images were confused cannot be told again, but for the most confident "
            "mistakes: the scores are of several kinds of head, or of a given classifier"
        )
    curve = None
    if experiment is not None and head.name in RECIPES:
        if len(unseen.examples) * len(head.label_names) * store.dimension <= _CURVE:
            curve = curve_of(head, experiment)
        else:
            notes.append("the learning curve would take minutes here: `train --plots` draws it")
    names, examples = list(found.scores.per_class), found.examples
    itself = np.flatnonzero(store.views == 0)
    row_of = {store.paths[row]: row for row in itself.tolist()}
    points = itself[drawn(len(itself), MOST)]
    novelty = head.predict(store).novelty
    strange = np.flatnonzero(novelty > 1)
    return Review(
        scores=found.scores,
        names=names,
        rows=_rows(examples, row_of),
        truth=examples.codes_among(names),
        predicted=found.probabilities.argmax(axis=1),
        confidence=found.probabilities.max(axis=1, initial=0),
        suspects=unseen.suspects,
        row_of=row_of,
        copies=_copies(unseen.examples, row_of, store),
        unfamiliar=itself[strange[np.argsort(-novelty[strange], kind="stable")]],
        points=points,
        places=places(store.read_features(points)),
        curve=curve,
        notes=tuple(notes),
    )


@dataclasses.dataclass(frozen=True)
class _Unseen:
    """Every labelled image as a head without it sees it."""

    examples: Examples
    """Grouped."""
    suspects: tuple[Suspect, ...] | None = None
    notes: tuple[str, ...] = ()


def _experiment(head: Head, store: FeatureStore, folds: int, **how: bool) -> Experiment:
    return Experiment.of(store, folds, head.seed, head.class_weight, head.min_images, **how)


def _unseen(
    head: Head, store: FeatureStore, found: Judged, experiment: Experiment | None
) -> _Unseen:
    """Hold out all images in turn, where that was not done for the scores (`found`)."""
    if experiment is not None and experiment.test is None and len(found.examples):
        probabilities = np.full((len(experiment.examples), len(experiment.names)), np.nan)
        probabilities[experiment.rows] = found.probabilities
        return _Unseen(experiment.examples, audited(experiment, probabilities).suspects)
    known = head.name in RECIPES
    judge, parameters = (head.name, head.parameters) if known else (_JUDGE, _PARAMETERS)
    try:
        if experiment is None or experiment.test is not None:
            experiment = _experiment(head, store, max(head.folds, FEWEST), tested=False)
    except TrainingError as error:  # too few images to hold any out, beside what is scored
        examples = labelled(store).examples.grouped()
        return _Unseen(examples, notes=(f"the labels were not audited: {error}",))
    probabilities = held_out(recipe_of(judge), parameters, experiment.task, experiment.folds)
    suspects = audited(experiment, probabilities[: len(experiment.examples)]).suspects
    notes = () if known else (f"suspects are those of a {judge} head, not of {head.name}",)
    return _Unseen(experiment.examples, suspects, notes)


def _as_scored(head: Head, experiment: Experiment) -> Judged:
    """The scores of a head and the predictions that they are of; of no image, if those are lost."""
    examples, probabilities = experiment.scored, head.unseen
    if probabilities is None and experiment.test is not None:
        views = examples.augmented if head.tta else None
        probabilities = predicted(head.pipeline, examples.features, views)
    elif probabilities is None and head.name in RECIPES:
        probabilities = out_of_fold(head.name, experiment)[experiment.rows]
    # Others, if the scores are those of choosing among several kinds of head.
    if probabilities is None or experiment.score(probabilities).confusion != head.scores.confusion:
        return Judged(head.scores, examples.rows(np.empty(0, np.intp)), np.empty((0, 1)))
    return Judged(head.scores, examples, probabilities)


def _rows(examples: Examples, row_of: dict[str, int]) -> NDArray[np.intp]:
    return np.array([row_of[os.fsdecode(path)] for path in examples.paths.tolist()], np.intp)


def _copies(examples: Examples, row_of: dict[str, int], store: FeatureStore) -> tuple[Copy, ...]:
    """Near-copies of each image: the most alike, that across the split, and with another label."""
    rows, codes = _rows(examples, row_of), examples.codes
    in_test = store.splits[rows] == TEST
    found = examples.grouping or Grouping(examples.features, examples.identities, labels=codes)
    pairs: dict[tuple[int, int], float] = {}
    for sides in (None, codes, in_test.astype(np.intp)):
        partners, cosines = found.partners(sides)
        for row in np.flatnonzero(partners >= 0).tolist():
            other = int(partners[row])
            pairs[min(row, other), max(row, other)] = float(cosines[row])
    # Files of the same bytes: the first with each of the others.
    order = np.argsort(examples.identities, kind="stable")
    same = np.flatnonzero(np.diff(examples.identities[order].astype(np.uint64)) == 0)
    pairs.update({(int(order[place]), int(order[place + 1])): 1.0 for place in same.tolist()})
    copies, enough = [], least(len(examples))
    for (one, two), cosine in pairs.items():
        if cosine < enough:
            continue
        one, two = (two, one) if in_test[two] and not in_test[one] else (one, two)
        across, differ = in_test[one] != in_test[two], codes[one] != codes[two]
        copies.append(Copy(int(rows[one]), int(rows[two]), cosine, bool(across), bool(differ)))
    copies.sort(key=lambda copy: (not copy.splits, not copy.labels, -copy.cosine, copy.row))
    return tuple(copies)
