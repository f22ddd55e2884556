"""A recipe + folds -> the parameters to use, and honest probabilities for every row.

Honest means that nothing which gives a row its probability has seen that row: neither the
classifier, nor the choice of its parameters, nor its calibration. Each fold is therefore predicted
by classifiers without that fold, and their parameters are chosen, and calibrated, by classifiers
without that fold and one other (nested cross-validation). A classifier without folds 1 and 2 serves
both, so that five folds need 5 + 10 classifiers and not 5 + 20.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..features.journal.progress import part_of
from .heads.calibration import (
    ENOUGH,
    Calibration,
    Part,
    best_calibration,
    calibration,
    halves,
    log_losses,
    usual,
)
from .heads.recipe import Cut, Decisions, Parameters, Recipe, Step, Task

HeldOut = tuple[frozenset[int], int]
"""The folds that a classifier was trained without, and the one of them that it decides about."""

_ADVANCE: Final = 0.001
"""Improvement of the held-out cost per row below which a path is not followed further: where the
classes can be separated it would improve ever less, ever more slowly, and without end."""

_ENOUGH_JUDGED: Final = 5000
"""Held-out rows that may choose the parameters for a fold; more would hardly choose otherwise."""


@dataclasses.dataclass(frozen=True)
class CrossFit:
    """The results of cross-fitting."""

    parameters: Parameters
    """The best for all rows."""
    start: Any
    """Of a fit with them, for `Recipe.fit`."""
    calibration: Calibration | None
    """From decision values to probabilities, if the recipe needs one."""
    probabilities: NDArray[np.float64]
    """(R, K) honest ones, NaN for rows that no fold holds out; or (0, K)."""
    judged: Judged
    """The held-out rows with the best parameters: what heads are compared by."""
    fold_judged: list[Judged]
    """If honest, the same for each fold, from classifiers that have not seen the fold."""


@dataclasses.dataclass(frozen=True)
class Judged:
    """Held-out rows, fold by fold, with the decisions of classifiers without that fold."""

    recipe: Recipe
    task: Task
    rows: list[NDArray[np.intp]]
    decisions: list[Decisions]

    def calibration(self) -> Calibration | None:
        """The best calibration by them, if the recipe needs one."""
        return best_calibration(self.recipe.calibrations, self._parts) if self._parts else None

    def log_loss(self, method: str | None = None) -> float:
        """Mean log loss, with calibrations that have not seen the rows either.

        Every second fold is calibrated by the others, in the best way or by one `method`; a single
        fold by itself.
        """
        losses = []
        for known, judged in halves(len(self.rows)):
            found = None
            if self._parts and method:
                found = calibration(method, self._parts[known], ENOUGH)
            elif self._parts:
                found = best_calibration(self.recipe.calibrations, self._parts[known])
            for rows, decisions in zip(self.rows[judged], self.decisions[judged], strict=True):
                probabilities = to_probabilities(self.recipe, found, decisions)
                cost = log_losses(probabilities, self.task.codes[rows])
                losses.append(np.average(cost, weights=self.task.weights(rows)))
        return float(np.mean(losses))

    def cost(self) -> float:
        """What the search minimises: the log loss of what is served, or zero without any rows.

        Of more than two classes a temperature stands for the calibration that may be chosen in the
        end: a step of the search has thousands of sigmoids otherwise.
        """
        if not self.rows:
            return 0.0
        method = None
        if self._parts:
            method = usual(self.recipe.calibrations, self.decisions[0].shape[1])
        return self.log_loss(method)

    @functools.cached_property
    def _parts(self) -> list[Part]:
        """To calibrate by, if the recipe needs that."""
        if self.recipe.probabilities:
            return []
        return [
            Part(decisions, self.task.codes[rows], self.task.weights(rows))
            for rows, decisions in zip(self.rows, self.decisions, strict=True)
        ]


def cross_fit(
    recipe: Recipe,
    task: Task,
    folds: Sequence[NDArray[np.intp]],
    *,
    honest: bool,
    views: bool = False,
) -> CrossFit:
    """Choose parameters, fit the calibration, and if `honest` predict every row unseen.

    Rows that no fold holds out are trained on for all of them. Honest predictions take three times
    as long. Folds have images; with `views` the further views of theirs are predicted too.
    """
    singles = [frozenset([fold]) for fold in range(len(folds))]
    needs_judges = honest and (recipe.searches or not recipe.probabilities)
    pairs = _pairs(folds) if needs_judges else []
    without = [*singles, *pairs]
    rows_of = [task.views_of(fold) if views else fold for fold in folds]
    cuts = [_cut(task, rows_of if len(left_out) == 1 else folds, left_out) for left_out in without]

    choices = [_Choice(judges=[(left_out, fold) for fold, left_out in enumerate(singles)])]
    if honest:
        choices += [
            _Choice(
                judges=[(pair, min(pair - left_out)) for pair in pairs if left_out < pair],
                predicted_by=[(left_out, fold)],
            )
            for fold, left_out in enumerate(singles)
        ]

    def judge(step: Step) -> float:
        decisions = {
            (left_out, fold): values
            for left_out, of_cut in zip(without, step.decisions, strict=True)
            for fold, values in zip(sorted(left_out), of_cut, strict=True)
        }
        improved = [choice.consider(recipe, task, folds, step, decisions) for choice in choices]
        return sum(improved) / len(improved)

    with part_of(recipe.name):
        recipe.search(task, cuts, judge)

    judged = [choice.judged(recipe, task, folds) for choice in choices]
    probabilities = np.full((len(task.codes) if honest else 0, len(task.names)), np.nan)
    for fold, (choice, of_choice) in enumerate(zip(choices[1:], judged[1:], strict=True)):
        decisions = choice.decisions[singles[fold], fold]
        probabilities[rows_of[fold]] = to_probabilities(recipe, of_choice.calibration(), decisions)
    return CrossFit(
        parameters=choices[0].parameters,
        start=choices[0].start,
        calibration=judged[0].calibration(),
        probabilities=probabilities,
        judged=judged[0],
        fold_judged=judged[1:],
    )


def held_out(
    recipe: Recipe, parameters: Parameters, task: Task, folds: Sequence[NDArray[np.intp]]
) -> NDArray[np.float64]:
    """(R, K) probabilities of rows by classifiers without their fold; NaN for rows of none.

    The parameters are given and may have been chosen with these rows: for doubts, not for scores.
    """
    cuts = [_cut(task, folds, frozenset([fold])) for fold in range(len(folds))]
    with part_of("doubtful labels"):
        decisions = [values for (values,) in recipe.at(parameters, task, cuts).decisions]
    found = Judged(recipe, task, list(folds), decisions).calibration()
    probabilities = np.full((len(task.codes), len(task.names)), np.nan)
    for rows, values in zip(folds, decisions, strict=True):
        probabilities[rows] = to_probabilities(recipe, found, values)
    return probabilities


def to_probabilities(
    recipe: Recipe, found: Calibration | None, decisions: Decisions
) -> NDArray[np.float64]:
    """(n, c) decision values -> (n, K) probabilities, by the recipe itself or its calibration."""
    if found is not None:
        return found.probabilities(decisions)
    assert recipe.probabilities is not None
    probabilities = np.asarray(recipe.probabilities(decisions.astype(np.float64)))
    normalised: NDArray[np.float64] = probabilities / probabilities.sum(axis=1, keepdims=True)
    return normalised


@dataclasses.dataclass
class _Choice:
    """The best parameters so far: those with which `judges` cost least.

    It sees no more of a walk than if it were walked for this choice alone, so that no fold has a
    say in how far a choice goes that must know nothing of it.
    """

    judges: Sequence[HeldOut]
    predicted_by: Sequence[HeldOut] = ()
    """Classifiers whose decisions are kept too, for the predictions."""
    cost: float = np.inf
    parameters: Parameters = dataclasses.field(default_factory=dict)
    start: Any = None
    decisions: dict[HeldOut, Decisions] = dataclasses.field(default_factory=dict)
    settled: bool = False
    _stopped_on: int | None = None

    def consider(
        self,
        recipe: Recipe,
        task: Task,
        folds: Sequence[NDArray[np.intp]],
        step: Step,
        decisions: dict[HeldOut, Decisions],
    ) -> bool:
        """Take a step if it is better; return whether it is worth going on in this direction."""
        if step.leg is not None and (self._stopped_on == step.leg or (self.settled and step.leg)):
            return False
        kept = {one: decisions[one] for one in (*self.judges, *self.predicted_by)}
        tried = dataclasses.replace(self, decisions=kept).judged(recipe, task, folds)
        cost, before = tried.cost(), self.cost
        advanced = cost < before - _ADVANCE
        if cost < before:
            self.cost, self.parameters, self.start = cost, step.parameters, step.start
            self.decisions = kept
        if not advanced:
            self._stopped_on = step.leg
        elif before < np.inf:
            self.settled = True  # the minimum lies in this direction
        return advanced

    def judged(self, recipe: Recipe, task: Task, folds: Sequence[NDArray[np.intp]]) -> Judged:
        """The judging rows with what was chosen."""
        return Judged(
            recipe,
            task,
            [folds[fold] for _, fold in self.judges],
            # Images come before their further views.
            [self.decisions[one][: len(folds[one[1]])] for one in self.judges],
        )


def _pairs(folds: Sequence[NDArray[np.intp]]) -> list[frozenset[int]]:
    """Which pairs of folds to leave out: all, or where folds are large one or two for each."""
    number = len(folds)
    if min(map(len, folds)) < _ENOUGH_JUDGED:
        return [frozenset(pair) for pair in itertools.combinations(range(number), 2)]
    ring = [frozenset([fold, (fold + 1) % number]) for fold in range(number)]
    return ring[::2]


def _cut(task: Task, folds: Sequence[NDArray[np.intp]], left_out: frozenset[int]) -> Cut:
    held_out = tuple(folds[fold] for fold in sorted(left_out))
    out = np.zeros(len(task.codes), np.bool_)
    out[np.concatenate(held_out)] = True
    if task.image is not None:
        # No view of an image that is held out is trained on.
        out = np.isin(task.image, task.image[out])
    return Cut(np.flatnonzero(~out), held_out)
