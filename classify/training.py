"""A feature file + the name of a head -> a fitted head with scores that hold up."""

import dataclasses
import functools
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from ..features.errors import TrainingError, WrongUsage
from ..features.layout import SPLIT_NAMES, TEST
from ..features.store import FeatureStore
from . import soundness
from .crossfit import CrossFit, cross_fit
from .examples import labelled
from .experiment import Experiment
from .head import REMEDY, THIS_HEAD, Head
from .heads import RECIPES, recipe_of
from .heads.recipe import Recipe
from .novelty import Novelty
from .scores.evaluation import Scores, score
from .scores.leaderboard import Standing, ranked


def train(
    store: FeatureStore,
    head: Any = "logistic",
    *,
    folds: int = 5,
    seed: int = 0,
    class_weight: str | None = None,
) -> Head:
    """Train a head on a feature file.

    Rows of the test split, if there is one, are scored and never trained on. Without one the
    scores are cross-validated, search and calibration included, and the head is trained on
    everything.

    Parameters
    ----------
    store : FeatureStore
        Labelled features.
    head : {"logistic", "svm", "svm-rbf"} or scikit-learn classifier, default="logistic"
        Logistic regression, a linear SVM or one with an RBF kernel, on standardised features, their
        parameters chosen by cross-validation inside the training rows; probabilities of the SVMs
        are calibrated. A classifier of scikit-learn, pipelines and searches included, is taken as
        it is, and calibrated if it has no ``predict_proba``.
    folds : int, default=5
        Of every cross-validation; fewer if a class has fewer images.
    seed : int, default=0
        Of the shuffling: same store, head, folds and seed give the same head.
    class_weight : {None, "balanced"}, default=None
        With "balanced" all classes weigh the same, however few images they have. Accuracy suffers,
        rare classes gain; probabilities are then those for classes that are equally frequent.

    Raises
    ------
    TrainingError
        If there are no labels, fewer than two classes, a class of one image, a class that only the
        test split has, or a vector that is not finite.
    WrongUsage
        If an option has an impossible value.
    """
    started = time.perf_counter()
    experiment = Experiment.of(store, folds, seed, class_weight)
    learned = _learn(recipe_of(head), experiment)
    return _head(learned, experiment, learned.probabilities, started)


def train_all(
    store: FeatureStore, *, folds: int = 5, seed: int = 0, class_weight: str | None = None
) -> tuple[Head, tuple[Standing, ...]]:
    """Train every kind of head on a feature file, and choose one without a look at its scores.

    The choice goes by the log loss of cross-validation inside the training rows. Without a test
    split, the choice is made anew for each fold of the scoring, without that fold, so that the
    scores of the returned head are those of choosing as well.

    Parameters
    ----------
    store, folds, seed, class_weight
        As for `train`.

    Returns
    -------
    head : Head
        The chosen one.
    standings : tuple of Standing
        Every kind of head, best first.
    """
    started = time.perf_counter()
    experiment = Experiment.of(store, folds, seed, class_weight)
    every = [_learn(one, experiment) for one in RECIPES.values()]
    every.sort(key=lambda one: one.choice_log_loss)
    best = every[0]
    chosen, notes = best.probabilities, []
    if experiment.test is None:
        notes.append("these are the scores of choosing a kind of head as well, anew for each fold")
        chosen = best.probabilities.copy()
        for fold, rows in enumerate(experiment.folds):
            losses = [one.cross.fold_judged[fold].log_loss() for one in every]
            chosen[rows] = every[int(np.argmin(losses))].probabilities[rows]
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
    standings = ranked(entries, experiment.scored.identities, lambda one: one.choice_log_loss)
    return _head(best, experiment, chosen, started, *notes), standings


def evaluate(head: Head, store: FeatureStore, split: str | None = None) -> Scores:
    """Score a head on labelled features that it was not trained on.

    Images that the head was trained on are left out and counted in the notes.

    Parameters
    ----------
    head : Head
        A trained head.
    store : FeatureStore
        Features of the same provenance.
    split : {"train", "validation", "test", "all"}, optional
        Which rows; by default the test split if the file has one, else all.

    Raises
    ------
    ProvenanceMismatch
        If head and features were made differently.
    TrainingError
        If no row is left to score, or one has a class that the head does not know.
    """
    head.origin.require(store.origin)
    examples, splits, notes = labelled(store)
    if split is None:
        split = "test" if (splits == TEST).any() else "all"
    if split != "all" and split not in SPLIT_NAMES[1:]:
        raise WrongUsage(f"split {split!r}: use {', '.join(SPLIT_NAMES[1:])} or all")
    if split != "all":
        examples = examples.rows(splits == SPLIT_NAMES.index(split))
    basis = "all labelled images" if split == "all" else f"{split} split"
    if not len(examples):
        raise TrainingError(f"{store.path}: nothing to score in {basis}: no labelled image there")
    trained_on = np.isin(examples.identities, head.training_images)
    if trained_on.all():
        raise TrainingError(
            f"{store.path}: the head was trained on every image in {basis}, so scoring them would "
            f"only flatter it; `headstart info HEAD` shows its honest scores"
        )
    if trained_on.any():
        notes.append(f"{int(trained_on.sum())} images that the head was trained on are left out")
    examples = examples.rows(~trained_on)
    unknown = sorted(set(examples.classes) - set(head.label_names))
    if unknown:
        raise TrainingError(
            f"{store.path}: class {unknown[0]!r} is unknown to the head, which knows "
            f"{', '.join(head.label_names)}"
        )
    return score(
        examples,
        head.predict(examples.features).probabilities,
        head.label_names,
        majority=head.majority,
        basis=basis,
        notes=notes,
    )


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
    task, test = experiment.task, experiment.test
    cross = cross_fit(recipe, task, experiment.folds, honest=test is None)
    steps = recipe.fit(cross.parameters, task, cross.start)
    if cross.calibration is not None:
        name, classifier = steps[-1]
        steps[-1] = name, cross.calibration.after(classifier)
    pipeline = Pipeline(steps)
    probabilities = cross.probabilities
    if test is not None:
        probabilities = soundness.probabilities(pipeline, test.features)
    return _Learned(recipe, cross, pipeline, probabilities, time.perf_counter() - started)


def _head(
    learned: _Learned,
    experiment: Experiment,
    probabilities: NDArray[np.float64],
    started: float,
    *notes: str,
) -> Head:
    store, task = experiment.store, experiment.task
    counts = np.bincount(task.codes).tolist()
    return Head(
        pipeline=learned.pipeline,
        name=learned.recipe.name,
        origin=store.origin.called(THIS_HEAD, REMEDY),
        training_digest=store.content_digest,
        training_images=np.unique(experiment.examples.identities),
        training_counts=dict(zip(experiment.names, counts, strict=True)),
        parameters=learned.cross.parameters,
        scores=experiment.score(probabilities, *notes),
        folds=len(experiment.folds),
        seed=task.seed,
        class_weight=task.class_weight,
        novelty=Novelty.learned(task.features, experiment.folds, task.seed),
        seconds=time.perf_counter() - started,
    )
