"""A recipe whose parameters were chosen by other rows, for whoever takes a recipe."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from .recipe import Cut, Parameters, Probabilities, Recipe, Step, Task


@dataclasses.dataclass(frozen=True)
class Settled:
    """The recipe, with nothing left to search."""

    recipe: Recipe
    parameters: Parameters
    start: Any = None
    """From where a fit with them is nearly done, as `Recipe.fit` takes it."""
    searches: bool = False

    @property
    def name(self) -> str:
        """As of the recipe."""
        return self.recipe.name

    @property
    def streams(self) -> bool:
        """As of the recipe."""
        return self.recipe.streams

    @property
    def probabilities(self) -> Probabilities | None:
        """As of the recipe."""
        return self.recipe.probabilities

    @property
    def calibrations(self) -> Sequence[str]:
        """As of the recipe."""
        return self.recipe.calibrations

    def search(self, task: Task, cuts: Sequence[Cut], judge: Callable[[Step], float]) -> None:
        """A single step."""
        judge(self.at(self.parameters, task, cuts, self.start))

    def at(
        self, parameters: Parameters, task: Task, cuts: Sequence[Cut], start: Any = None
    ) -> Step:
        """The step of these parameters."""
        return self.recipe.at(parameters, task, cuts, start)

    def fit(self, parameters: Parameters, task: Task, start: Any = None) -> list[tuple[str, Any]]:
        """Fit on all rows."""
        return self.recipe.fit(parameters, task, start)
