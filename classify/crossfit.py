"""A recipe + folds -> the parameters to use, and honest probabilities for every row.

Honest means that nothing which gives a row its probability has seen that row: neither the
classifier, nor the choice of its parameters, nor its calibration. Each fold is therefore answered
by classifiers without that fold, and their parameters are chosen, and calibrated, by classifiers
without that fold and one other (nested cross-validation). A classifier without folds 1 and 2 serves
both, so that five folds need 5 + 10 classifiers and not 5 + 20.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from sklearn.metrics import log_loss

from .calibration import calibrator
from .recipe import Cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sklearn.calibration import CalibratedClassifierCV

    from .recipe import Decisions, Parameters, Recipe, Step, Task

    Asked = tuple[frozenset[int], int]


_RELATIVE: Final = 0.01
_ABSOLUTE: Final = 0.001
"""Improvements of the held-out cost, the latter a row, below which a path is not followed further:
where the classes can be separated it would improve ever less, ever more slowly, and without end."""

_ENOUGH_JUDGED: Final = 5000
"""Held-out rows that choose the parameters for a fold; more would hardly choose otherwise."""


@dataclasses.dataclass(frozen=True)
class CrossFit:
    """What cross-fitting has found.

    Attributes
    ----------
    parameters : dict of str to float
        The best for all rows.
    start : object
        Of a fit with them, for `Recipe.fit`.
    calibrator : CalibratedClassifierCV or None
        From decision values to probabilities, if the recipe needs one.
    log_loss : float
        Of the held-out rows with these parameters; what heads are compared by.
    probabilities : ndarray of shape (N, K)
        Honest ones; of no rows if they were not asked for.
    fold_log_losses : list of float
        The same as `log_loss` for each fold, from classifiers that have not seen the fold, if
        honest probabilities were asked for.
    """

    parameters: Parameters
    start: Any
    calibrator: CalibratedClassifierCV | None
    log_loss: float
    probabilities: NDArray[np.float64]
    fold_log_losses: list[float]


def cross_fit(
    recipe: Recipe, task: Task, folds: Sequence[NDArray[np.intp]], *, honest: bool
) -> CrossFit:
    """Choose parameters, fit the calibration, and predict each row without having seen it.

    Parameters
    ----------
    recipe : Recipe
        What to make.
    task : Task
        The rows.
    folds : sequence of ndarray of int
        Held-out rows of each fold; every row is in one.
    honest : bool
        Whether to predict as well. It takes three times as long.
    """
    singles = [frozenset([fold]) for fold in range(len(folds))]
    judged = honest and (recipe.searches or recipe.calibrated)
    pairs = _pairs(folds) if judged else []
    without = [*singles, *pairs]
    cuts = [_cut(folds, left_out) for left_out in without]

    choices = [_Choice(judges=[(left_out, fold) for fold, left_out in enumerate(singles)])]
    if honest:
        choices += [
            _Choice(
                judges=[(pair, min(pair - left_out)) for pair in pairs if left_out < pair],
                answers=[(left_out, fold)],
            )
            for fold, left_out in enumerate(singles)
        ]

    def judge(step: Step) -> float:
        decisions = {
            (left_out, fold): values
            for left_out, of_cut in zip(without, step.decisions, strict=True)
            for fold, values in zip(sorted(left_out), of_cut, strict=True)
        }
        costs = {
            (left_out, fold): _cost(recipe, task, values, folds[fold])
            for (left_out, fold), values in decisions.items()
        }
        improved = [choice.consider(step, costs, decisions) for choice in choices]
        return sum(improved) / len(improved)

    recipe.search(task, cuts, judge)

    calibrated = [_calibrated(recipe, task, folds, choice) for choice in choices]
    probabilities = np.empty((len(task.codes) if honest else 0, len(task.names)))
    for choice, (calibration, _) in zip(choices, calibrated, strict=True):
        for asked in choice.answers:
            probabilities[folds[asked[1]]] = to_probabilities(
                recipe, calibration, choice.decisions[asked]
            )
    return CrossFit(
        parameters=choices[0].parameters,
        start=choices[0].start,
        calibrator=calibrated[0][0],
        log_loss=calibrated[0][1],
        probabilities=probabilities,
        fold_log_losses=[loss for _, loss in calibrated[1:]],
    )


def to_probabilities(
    recipe: Recipe, calibrated: CalibratedClassifierCV | None, decisions: Decisions
) -> NDArray[np.float64]:
    """(n, c) decision values -> (n, K) probabilities, calibrated or as the recipe has them."""
    if calibrated is None:
        probabilities = recipe.probabilities(decisions)
    else:
        probabilities = np.asarray(calibrated.predict_proba(decisions.astype(np.float64)))
    normalised: NDArray[np.float64] = probabilities / probabilities.sum(axis=1, keepdims=True)
    return normalised


@dataclasses.dataclass
class _Choice:
    """The best parameters so far: those with which `judges` cost least.

    Judges and answers are named by the folds that a classifier was trained without, and the one of
    them that it is asked about.
    """

    judges: Sequence[Asked]
    answers: Sequence[Asked] = ()
    cost: float = np.inf
    parameters: Parameters = dataclasses.field(default_factory=dict)
    start: Any = None
    decisions: dict[Asked, Decisions] = dataclasses.field(default_factory=dict)

    def consider(
        self, step: Step, costs: dict[Asked, float], decisions: dict[Asked, Decisions]
    ) -> bool:
        """Take a step if it is better; say whether it is worth going on in this direction."""
        cost = sum(costs[asked] for asked in self.judges)
        cost /= sum(len(decisions[asked]) for asked in self.judges) or 1
        much_better = cost < min((1 - _RELATIVE) * self.cost, self.cost - _ABSOLUTE)
        if cost < self.cost:
            self.cost, self.parameters, self.start = cost, step.parameters, step.start
            self.decisions = {asked: decisions[asked] for asked in (*self.judges, *self.answers)}
        return much_better


def _pairs(folds: Sequence[NDArray[np.intp]]) -> list[frozenset[int]]:
    """Which pairs of folds to leave out: all, or enough of them that each fold has its judges."""
    number, pairs = len(folds), []
    for distance in range(1, number // 2 + 1):
        ring = {frozenset([fold, (fold + distance) % number]) for fold in range(number)}
        pairs += sorted(ring, key=sorted)
        if min(map(len, folds)) * 2 * distance >= _ENOUGH_JUDGED:
            break
    return pairs


def _cut(folds: Sequence[NDArray[np.intp]], left_out: frozenset[int]) -> Cut:
    training = [rows for fold, rows in enumerate(folds) if fold not in left_out]
    return Cut(np.sort(np.concatenate(training)), tuple(folds[fold] for fold in sorted(left_out)))


def _cost(recipe: Recipe, task: Task, decisions: Decisions, rows: NDArray[np.intp]) -> float:
    costs, weights = recipe.costs(decisions, task.codes[rows]), task.weights(rows)
    return float(costs.sum() if weights is None else costs @ weights)


def _calibrated(
    recipe: Recipe, task: Task, folds: Sequence[NDArray[np.intp]], choice: _Choice
) -> tuple[CalibratedClassifierCV | None, float]:
    """The calibration of the chosen classifiers, if one is needed, and their log loss."""
    if not choice.judges:
        return None, np.nan
    rows = np.concatenate([folds[fold] for _, fold in choice.judges])
    decisions = np.concatenate([choice.decisions[asked] for asked in choice.judges])
    labels, weights = task.labels[rows], task.weights(rows)
    calibration = calibrator(decisions, labels, weights) if recipe.calibrated else None
    probabilities = to_probabilities(recipe, calibration, decisions)
    return calibration, float(
        log_loss(labels, probabilities, labels=task.names, sample_weight=weights)
    )
