"""Many independent smooth minimisations, side by side, by preconditioned L-BFGS.

Nocedal & Wright, Numerical Optimization, 2nd ed., ch. 7.2. The objective is handed in; nothing here
knows of features.
"""

import logging
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .losses import Floats

MOST_ITERATIONS: Final = 200
MOST_TRIALS: Final = 8
"""Of a step length; the second is usually right."""

_HISTORY: Final = 8  # pairs of L-BFGS; beyond about eight nothing is gained (Liu & Nocedal 1989)
_log = logging.getLogger("headstart")


class Objective(Protocol):
    """``strength * (sum of losses of decision values) + penalty / 2``, of several problems.

    Decision values are linear in the solution. Arrays of either, and of the losses, can be reshaped
    to (`independent`, -1), one row per problem.
    """

    strength: float
    independent: int
    """How many minimisations there are, none of which knows of the others."""

    def forward(self, vector: Floats) -> Floats:
        """Decision values of a solution, or how they change along a direction."""

    def losses(self, decisions: Floats) -> tuple[NDArray[np.float64], Floats]:
        """Sums of the losses, and their derivatives by the decision values."""

    def penalised(self, vector: Floats) -> Floats:
        """The gradient of the penalty; the penalty is its product with the vector."""

    def gradient(self, solution: Floats, derivatives: Floats) -> Floats:
        """Of the whole objective."""

    def preconditioner(self, derivatives: Floats) -> Callable[[Floats], Floats]:
        """Multiplication by about the inverse of the second derivatives at this point."""


@runtime_checkable
class Renewing(Objective, Protocol):
    """An objective whose second derivatives are added up anew on the way."""

    def renew(self) -> bool:
        """Before every step: whether there is a new `preconditioner` after its `losses`."""


def minimise(
    objective: Objective,
    solution: Floats,
    tolerance: float,
    *,
    most_iterations: int = MOST_ITERATIONS,
    most_trials: int = MOST_TRIALS,
    proven: float = np.inf,
) -> Floats:
    """Improve `solution` in place, to a `tolerance` relative to the objective.

    Where the penalty is of the whole solution, half the square of the gradient is more than what is
    left for certain: that must be no more than a share `proven` of the objective.

    Returns the decision values of the solution, also where it stops early.
    """
    strength, independent = objective.strength, objective.independent

    def dot(a: Floats, b: Floats) -> NDArray[np.float64]:
        products = np.einsum("ij,ij->i", a.reshape(independent, -1), b.reshape(independent, -1))
        return np.asarray(products, np.float64)

    def scaled(step: NDArray[np.float64], vector: Floats) -> Floats:
        flat = step.astype(np.float32)[:, None] * vector.reshape(independent, -1)
        return flat.reshape(vector.shape)

    decisions = objective.forward(solution)
    costs, derivatives = objective.losses(decisions)
    gradient = objective.gradient(solution, derivatives)
    precondition = objective.preconditioner(derivatives)
    history: list[tuple[Floats, Floats, NDArray[np.float64]]] = []
    scale = np.ones(independent)
    for iteration in range(most_iterations):
        # The two loops of L-BFGS: steps, changes of the gradient, inverses of their products.
        direction = gradient.copy()
        weights = []
        for step, change, inverse in reversed(history):
            weights.append(inverse * dot(step, direction))
            direction -= scaled(weights[-1], change)
        direction = scaled(scale, precondition(direction))
        for (step, change, inverse), weight in zip(history, reversed(weights), strict=True):
            direction += scaled(weight - inverse * dot(change, direction), step)

        slope = -dot(gradient, direction)
        uphill = slope >= 0  # by rounding; that is no sign of a minimum
        if uphill.any():
            direction = scaled(np.where(uphill, 0.0, 1.0), direction)
            direction += scaled(np.where(uphill, 1.0, 0.0), gradient)
            slope = -dot(gradient, direction)
        value = strength * costs.reshape(independent, -1).sum(axis=1)
        value += dot(objective.penalised(solution), solution) / 2
        # Half the slope is how far below here the minimum of the quadratic model is. Of SVMs whose
        # classes can be separated that is as little as a hundredth of the truth: see `newton`.
        unfinished = -slope / 2 > tolerance * value
        unfinished |= dot(gradient, gradient) / 2 > proven * value
        if not unfinished.any():
            break
        direction = scaled(np.where(unfinished, -1.0, 0.0), direction)

        renewed = isinstance(objective, Renewing) and objective.renew()
        # Decision values are linear along a direction: trying a length costs no product.
        ahead = objective.forward(direction)
        across = dot(objective.penalised(solution), direction)
        along = dot(objective.penalised(direction), direction)
        lengths = _Lengths(slope)
        for _ in range(most_trials):
            length = lengths.tried
            trial = scaled(length, ahead)
            trial += decisions
            costs, derivatives = objective.losses(trial)
            climb = strength * dot(derivatives, ahead) + across + length * along
            if lengths.found(climb, unfinished):
                break
        decisions = trial
        step = scaled(length, direction)
        solution += step
        change = -gradient
        gradient = objective.gradient(solution, derivatives)
        change += gradient
        curving = dot(step, change)
        usable = curving > 0  # not of those that are finished, nor where rounding rules
        inverse = np.divide(1, curving, out=np.zeros(independent), where=usable)
        history = [*history[1 - _HISTORY :], (step, change, inverse)]
        if renewed:
            precondition, history = objective.preconditioner(derivatives), []
            scale = np.ones(independent)
        elif not iteration:
            scale = length
    else:
        _log.info(
            "C = %g: no minimum to %g within %d steps; going on from what is reached",
            strength,
            tolerance,
            most_iterations,
        )
    return decisions


class _Lengths:
    """Search along directions for where the slope, which only grows, has nearly vanished."""

    def __init__(self, slope: NDArray[np.float64]) -> None:
        self._goal = 0.3 * np.abs(slope)
        self._low, self._slope_low = np.zeros_like(slope), slope
        self._high, self._slope_high = np.full_like(slope, np.inf), np.full_like(slope, np.nan)
        self.tried = np.ones_like(slope)

    def found(self, slope: NDArray[np.float64], wanted: NDArray[np.bool_]) -> bool:
        """Take the slopes at the lengths tried; choose the next ones, unless all are good."""
        missing = wanted & (np.abs(slope) > self._goal)
        if not missing.any():
            return True
        short, far = missing & (slope < 0), missing & (slope >= 0)
        self._low = np.where(short, self.tried, self._low)
        self._slope_low = np.where(short, slope, self._slope_low)
        self._high = np.where(far, self.tried, self._high)
        self._slope_high = np.where(far, slope, self._slope_high)
        bracketed = np.isfinite(self._high)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = self._slope_low / (self._slope_low - self._slope_high)
            between = self._low + np.clip(share, 0.1, 0.9) * (self._high - self._low)
        self.tried = np.where(missing, np.where(bracketed, between, 4 * self.tried), self.tried)
        return False
