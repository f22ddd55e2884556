"""Augmented views: how many an image has, how they are made, and of which images."""

import dataclasses
import json
import re
from typing import Final

from ..errors import FeatureFileError, WrongUsage
from ..layout import SPLIT_NAMES, TEST

TRAINING: Final = "training"
ALL: Final = "all"
OF: Final = (TRAINING, ALL)
MOST_VIEWS: Final = 256
"""Of an image: all of one are in memory at a time, 70 MB at 299 pixels."""

VERSION: Final = ";"
"""Between the changes of a recipe and its version."""

_RECIPE: Final = re.compile(
    r"[a-z]+=[0-9.e+-]{1,20}(,[a-z]+=[0-9.e+-]{1,20}){0,20};[0-9]{1,9}", re.ASCII
)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The views of the images of a feature file.

    View 0 is the image itself, whatever the recipe, so that a head trained with views predicts
    plain images. Further views are random changes of it.

    Attributes
    ----------
    views : int
        Of each image that has more than itself, itself included.
    recipe : str
        What makes views 1 and up, with its version (`headstart.extract.images.views`); empty if
        there are none. Views of two recipes never meet in one file.
    of : str
        Which images have more than view 0: ``"training"`` (all that are not of the test split,
        which is scored as it is) or ``"all"``.
    """

    views: int = 1
    recipe: str = ""
    of: str = TRAINING

    def __post_init__(self) -> None:
        if type(self.views) is not int or not 1 <= self.views <= MOST_VIEWS:
            raise WrongUsage(f"views {self.views!r}: 1 (the image itself) to {MOST_VIEWS}")
        if self.of not in OF:
            raise WrongUsage(f"views_of {self.of!r}: use one of {', '.join(OF)}")

    def of_split(self, split: str) -> int:
        """How many views an image of a split has, one of `layout.SPLIT_NAMES`."""
        return 1 if split == SPLIT_NAMES[TEST] and self.of != ALL else self.views

    def joins(self, recipe: str) -> bool:
        """Whether views of a recipe may lie beside these."""
        return not self.recipe or not recipe or self.recipe == recipe

    @property
    def changes(self) -> str:
        """The recipe as one asks for it."""
        return changes(self.recipe)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Augmentation":
        """Read what `to_json` wrote.

        Raises
        ------
        FeatureFileError
            If a field is missing, unknown, of the wrong type or out of range.
        """
        try:
            return cls.checked(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise FeatureFileError(f"the recorded augmentation cannot be read: {error}") from error

    @classmethod
    def checked(cls, values: object) -> "Augmentation":
        """Take fields that were read from a file of anybody's; errors as of `from_json`."""
        names = {field.name for field in dataclasses.fields(cls)}
        try:
            if not isinstance(values, dict) or values.keys() != names:
                raise WrongUsage(f"its fields are not {', '.join(sorted(names))}")
            recipe = values["recipe"]
            if not isinstance(recipe, str) or (recipe and not _RECIPE.fullmatch(recipe)):
                raise WrongUsage("its recipe is none")
            made = cls(**values)
            if (made.views > 1) != bool(recipe):
                raise WrongUsage("views without a recipe, or the other way round")
        except WrongUsage as error:
            raise FeatureFileError(f"the recorded augmentation cannot be read: {error}") from error
        return made


def changes(recipe: str) -> str:
    """A recipe without its version."""
    return recipe.partition(VERSION)[0]


NO_AUGMENTATION: Final = Augmentation()
