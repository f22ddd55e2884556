"""A feature file + the name of a head -> a fitted head with scores that hold up."""

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from ..features.errors import listed
from ..features.journal.progress import part_of
from ..features.store import FeatureStore
from .crossfit import CrossFit, cross_fit
from .examples.stored import beyond_memory, require_in_memory
from .experiment import Experiment
from .head import THIS_HEAD, Head
from .heads import AUTO, CHEAP, RECIPES, recipe_of
from .heads.prediction import predicted
from .heads.recipe import Recipe, Task
from .heads.settled import Settled
from .novelty import Novelty
from .scores.leaderboard import Standing, ranked
from .solver.rows import passes

_MANY_KNOWN: Final = 0.1
"""Share of the test images that look like training images from which on they may be the easy ones
rather than copies: what they would add to the accuracy is then said."""
_MOST_KEPT: Final = 2**25
"""Probabilities that a head keeps of what it was scored by: 256 MB."""


def train(
    store: FeatureStore,
    head: Any = "logistic",
    *,
    folds: int = 5,
    seed: int = 0,
    class_weight: str | None = None,
    min_images: int = 1,
    tta: bool = False,
) -> Head:
    """Train a head on a feature file.

    Rows of the test split, if there is one, are scored and never trained on. Without one the
    scores are cross-validated, search and calibration included, and the head is trained on
    everything. Copies and near-copies of an image, and rows of one group, count as one image.

    Parameters
    ----------
    store : FeatureStore
        Labelled features.
    head : {"logistic", "prototype", "auto", "svm", "svm-rbf"} or classifier, default="logistic"
        Logistic regression, the nearest class mean, a linear SVM or one with an RBF kernel; their
        parameters are chosen by cross-validation inside the training rows, and probabilities of all
        but the first are calibrated. With "auto" the training rows also choose between the first
        two; on cats and dogs, digits and characters in many typefaces, 3 to 200 images a class,
        that was within 0.7 points of the first alone, so it is not the default. A classifier of
        scikit-learn, pipelines and searches included, is taken as it is, and calibrated if it has
        no ``predict_proba``.
    folds : int, default=5
        Of every cross-validation; fewer if no class has as many images.
    seed : int, default=0
        Of the shuffling: same store, head, folds and seed give the same head.
    class_weight : {None, "balanced"}, default=None
        With "balanced" all classes weigh the same, however few images they have. Accuracy suffers,
        rare classes gain; probabilities are then those for classes that are equally frequent.
    min_images : int, default=1
        Leave out classes with fewer distinct training images. A class with fewer than three (two
        beside a test split) cannot be held out: its images are trained on, and none of them scored.
    tta : bool, default=False
        Score predictions by the mean over the views of an image (test-time augmentation), for such
        predictions; the file needs views of the images that are scored. The head is the same.

    Raises
    ------
    TrainingError
        If there are no labels, fewer than two classes of which images can be held out, or a vector
        that is not finite.
    WrongUsage
        If an option has an impossible value.
    """
    started = time.perf_counter()
    recipes, left_out = _fitting(_recipes(head), store)
    experiment = Experiment.of(store, folds, seed, class_weight, min_images, tta=tta)
    every, probabilities, notes = _choose(recipes, experiment)
    notes += left_out
    if len(every) > 1:
        best, *others = every
        behind = ", ".join(f"{one.recipe.name} {one.choice_log_loss:.3f}" for one in others)
        notes.insert(
            0,
            f"{best.recipe.name} was chosen by the log loss of cross-validation on the training "
            f"images, {best.choice_log_loss:.3f} ({behind})",
        )
    return _head(every[0], experiment, probabilities, started, *notes)


def train_all(
    store: FeatureStore,
    *,
    folds: int = 5,
    seed: int = 0,
    class_weight: str | None = None,
    min_images: int = 1,
    tta: bool = False,
) -> tuple[Head, tuple[Standing, ...]]:
    """Train every kind of head on a feature file, and choose one without a look at its scores.

    The choice goes by the log loss of cross-validation inside the training rows. Without a test
    split, the choice is made anew for each fold of the scoring, without that fold, so that the
    scores of the returned head are those of choosing as well.

    Parameters
    ----------
    store : FeatureStore
    folds, seed, min_images : int
    class_weight : {None, "balanced"}, default=None
    tta : bool, default=False
        As for `train`.

    Returns
    -------
    head : Head
        The chosen one.
    standings : tuple of Standing
        Every kind of head, best first.
    """
    started = time.perf_counter()
    recipes, left_out = _fitting(list(RECIPES.values()), store)
    experiment = Experiment.of(store, folds, seed, class_weight, min_images, tta=tta)
    every, chosen, notes = _choose(recipes, experiment)
    notes += left_out
    entries = [
        (
            Standing.of(
                one.recipe.name,
                experiment.score(one.probabilities),
                seconds=one.seconds,
                parameters=one.cross.parameters,
                choice_log_loss=one.choice_log_loss,
            ),
            experiment.right(one.probabilities),
        )
        for one in every
    ]
    standings = ranked(entries, experiment.scored.groups, lambda one: one.choice_log_loss)
    return _head(every[0], experiment, chosen, started, *notes), standings


def out_of_fold(head: Any, experiment: Experiment) -> NDArray[np.float64]:
    """(N, K) probabilities of the training rows by heads without them; NaN where none is."""
    _, found, _ = _choose(_recipes(head), experiment)
    probabilities = np.full((len(experiment.examples), len(experiment.names)), np.nan)
    probabilities[experiment.rows] = found
    return probabilities


def _recipes(head: Any) -> list[Recipe]:
    if isinstance(head, str) and head == AUTO:
        return [RECIPES[name] for name in CHEAP]
    return [recipe_of(head)]


def _fitting(recipes: list[Recipe], store: FeatureStore) -> tuple[list[Recipe], list[str]]:
    """Those that can be trained on a file, whatever its size, and which were left out."""
    if not beyond_memory(store):
        return recipes, []
    fitting = [one for one in recipes if one.streams]
    others = [one.name for one in recipes if not one.streams]
    if not fitting:
        able = listed([one.name for one in RECIPES.values() if one.streams])
        require_in_memory(store, f"head {others[0]} ({able} can read them in blocks)")
    what = f"{listed(others)} would take all vectors in memory: left out"
    return fitting, [what] if others else []


@dataclasses.dataclass(frozen=True)
class _Learned:
    """A recipe after the experiment."""

    recipe: Recipe
    cross: CrossFit
    pipeline: Pipeline
    probabilities: NDArray[np.float64]
    """Of the scored rows."""
    seconds: float

    @functools.cached_property
    def choice_log_loss(self) -> float:
        """What the best head is chosen by."""
        return self.cross.judged.log_loss()


def _learn(recipe: Recipe, experiment: Experiment) -> _Learned:
    started = time.perf_counter()
    test = experiment.test
    cross = _crossed(recipe, experiment)
    pipeline = fitted(recipe, experiment.task, cross)
    if test is None:
        found = experiment.held_out(cross.probabilities)
    else:
        further = test.augmented if experiment.tta else None
        found = predicted(pipeline, test.features, further)
    return _Learned(recipe, cross, pipeline, found, time.perf_counter() - started)


def _crossed(recipe: Recipe, experiment: Experiment) -> CrossFit:
    """The results of cross-fitting.

    Where the vectors are in a file, the parameters are those of some rows; with them classifiers of
    all rows are calibrated and scored, which begin where those of the few ended.
    """
    search, honest = experiment.search, experiment.test is None
    fit = functools.partial(cross_fit, views=experiment.tta)
    if search is None:
        return fit(recipe, experiment.task, experiment.folds, honest=honest)
    first = fit(recipe, search.task, search.folds, honest=honest and search.alone)
    if search.alone or (recipe.probabilities and not honest):
        return first
    settled = Settled(recipe, first.parameters, first.start)
    cross = fit(settled, experiment.task, experiment.folds, honest=honest)
    return dataclasses.replace(cross, judged=first.judged)


def fitted(recipe: Recipe, task: Task, cross: CrossFit) -> Pipeline:
    """Fit on all rows what cross-fitting chose, its calibration included."""
    with part_of(recipe.name):
        steps = recipe.fit(cross.parameters, task, cross.start)
    if cross.calibration is not None:
        name, classifier = steps[-1]
        steps[-1] = name, cross.calibration.after(classifier)
    return Pipeline(steps)


def _choose(
    recipes: Sequence[Recipe], experiment: Experiment
) -> tuple[list[_Learned], NDArray[np.float64], list[str]]:
    """All recipes after the experiment, best first; probabilities of the scored rows; notes."""
    every = [_learn(one, experiment) for one in recipes]
    if len(every) == 1:
        return every, every[0].probabilities, []
    every.sort(key=lambda one: one.choice_log_loss)
    task, folds, search = experiment.task, experiment.folds, experiment.search
    if experiment.test is not None or (search is not None and not search.alone):
        return every, every[0].probabilities, []
    if search is not None:  # what chooses is what is scored
        task, folds = search.task, search.folds
    chosen = every[0].cross.probabilities.copy()
    for fold, images in enumerate(folds):
        rows = task.views_of(images)
        losses = [one.cross.fold_judged[fold].log_loss() for one in every]
        chosen[rows] = every[int(np.argmin(losses))].cross.probabilities[rows]
    note = "these are the scores of choosing a kind of head as well, anew for each fold"
    return every, experiment.held_out(chosen), [note]


def _head(
    learned: _Learned,
    experiment: Experiment,
    probabilities: NDArray[np.float64],
    started: float,
    *notes: str,
) -> Head:
    store, task, examples = experiment.store, experiment.task, experiment.examples
    known = experiment.known
    if known is not None and len(known) > _MANY_KNOWN * (len(known) + len(experiment.scored)):
        parts = [learned.pipeline.predict(block) for block in passes(known.features, "copies")]
        right = np.concatenate(parts) == known.labels
        notes = (*notes, f"of the test images that are not scored, {right.mean():.1%} are right")
    counts = np.bincount(experiment.codes).tolist()
    return Head(
        pipeline=learned.pipeline,
        name=learned.recipe.name,
        origin=store.origin.called(THIS_HEAD, store.provenance.remedy),
        training_digest=store.content_digest,
        training_images=np.unique(examples.identities),
        training_counts=dict(zip(experiment.names, counts, strict=True)),
        parameters=learned.cross.parameters,
        scores=experiment.score(probabilities, *notes),
        folds=len(experiment.folds),
        seed=task.seed,
        class_weight=task.class_weight,
        min_images=experiment.min_images,
        tta=experiment.tta,
        novelty=Novelty.learned(
            examples.features,
            experiment.folds,
            experiment.codes,
            len(task.names),
            task.seed,
            examples.groups,
        ),
        seen=experiment.seen(),
        seconds=time.perf_counter() - started,
        unseen=probabilities if probabilities.size <= _MOST_KEPT else None,
    )
