"""The kinds of heads: linear ones, class means, an RBF kernel, any scikit-learn classifier."""

from typing import Any, Final

from ...features.errors import WrongUsage, nearest
from .given import Given
from .linear import LOGISTIC, SVM
from .prototype import Prototype
from .rbf import Rbf
from .recipe import Recipe

RECIPES: Final[dict[str, Recipe]] = {
    recipe.name: recipe for recipe in (LOGISTIC, Prototype(), SVM, Rbf())
}
CHEAP: Final = ("logistic", "prototype")
"""Kinds that need few images or little time; `auto` chooses between them."""
AUTO: Final = "auto"
ALL: Final = "all"


def recipe_of(head: Any) -> Recipe:
    """The recipe of a head by its name, or of a scikit-learn classifier."""
    if not isinstance(head, str):
        return Given(head)
    if head in RECIPES:
        return RECIPES[head]
    names = [AUTO, *RECIPES]
    if head == ALL:
        raise WrongUsage(
            f"head {ALL!r}: `train_all` trains every kind, and so does `headstart train`; here "
            f"it is one of {', '.join(names)}"
        )
    raise WrongUsage(
        f"unknown head {head!r}; did you mean {nearest(head, names)}? There are "
        f"{', '.join(names)}, and {ALL} for `headstart train`"
    )
