"""Augmented views: random changes of an image that leave it what it is.

Which change it is depends on the bytes of the image file, the number of the view and the recipe
alone, so that re-runs, other processes and other machines make the same. All geometry of a view is
one mapping of the plane, so that pixels are interpolated once. What lies outside of the image is
its reflection, as in ``keras.layers.RandomRotation``.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from ...features.errors import ProvenanceMismatch, WrongUsage, nearest
from ...features.provenance.augmentation import (
    ALL,
    NO_AUGMENTATION,
    TRAINING,
    VERSION,
    Augmentation,
    changes,
)

TEXTBOOK: Final = "flip,rotation=0.1"
"""As in the Keras guide to transfer learning: half of the views mirrored, turned by up to a tenth
of a full turn either way."""

_VERSION: Final = 1
"""Raise it by one in the commit that changes the pixels of any view."""

_BEYOND: Final = (math.sqrt(2) - 1) / 2
"""How far, in sides, a square reaches beyond itself when it is turned around its middle."""

Draws = NDArray[np.float64]
"""Four numbers from 0 to 1, at random."""
Plane = NDArray[np.float64]
"""(3, 3): from places in the view to those in the image; the middle is 0, and a side is 1 long."""


def _mirrored(draws: Draws, amount: float) -> Plane:
    return np.diag([-1.0 if draws[0] < amount else 1.0, 1.0, 1.0])


def _upside_down(draws: Draws, amount: float) -> Plane:
    return np.diag([1.0, -1.0 if draws[0] < amount else 1.0, 1.0])


def _turned(draws: Draws, amount: float) -> Plane:
    angle = (2 * draws[0] - 1) * amount * 2 * math.pi
    sine, cosine = math.sin(angle), math.cos(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def _cropped(draws: Draws, amount: float) -> Plane:
    side = 1 - (1 - amount) * draws[0]
    right, down = (1 - side) * (draws[1:3] - 0.5)
    return np.array([[side, 0, right], [0, side, down], [0, 0, 1]])


def _recoloured(image: Image.Image, draws: Draws, amount: float) -> Image.Image:
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for enhancer, draw in zip(enhancers, draws, strict=False):
        image = enhancer(image).enhance(1 + (2 * draw - 1) * amount)
    return image


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A kind of change: what its number means, and may be."""

    usual: float
    least: float
    most: float
    moves: Callable[[Draws, float], Plane] | None = None
    colours: Callable[[Image.Image, Draws, float], Image.Image] | None = None


KINDS: Final = {
    "flip": _Kind(0.5, 0, 1, moves=_mirrored),
    "vertical": _Kind(0.5, 0, 1, moves=_upside_down),
    "rotation": _Kind(0.1, 0, 0.5, moves=_turned),
    "crop": _Kind(0.8, 0.1, 1, moves=_cropped),
    "color": _Kind(0.2, 0, 1, colours=_recoloured),
}
"""What a recipe can name, in the order in which it is done.

flip, vertical: mirrored sideways or upside down, with this chance. rotation: by up to this share of
a full turn, either way. crop: a square of at least this share of the side, anywhere in the image.
color: brightness, contrast and saturation times one minus to one plus this."""


def recipe_of(text: str) -> str:
    """A recipe as it is recorded: every change once, in order, with its number; and a version.

    Raises
    ------
    WrongUsage
        If a change is unknown, there twice, or has an impossible number.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (one.strip() for one in part.partition("="))
        if name not in KINDS:
            raise WrongUsage(
                f"augment {text!r}: unknown change {name!r}; did you mean {nearest(name, KINDS)}? "
                f"There are {', '.join(KINDS)}, as in {TEXTBOOK!r}"
            )
        kind = KINDS[name]
        try:
            amount = float(number) if equals else kind.usual
        except ValueError:
            amount = math.nan
        if not kind.least <= amount <= kind.most:
            raise WrongUsage(
                f"augment {text!r}: {name} takes a number from {kind.least:g} to {kind.most:g}, "
                f"received {number!r}"
            )
        if name in found:
            raise WrongUsage(f"augment {text!r}: {name} is there twice")
        found[name] = amount
    parts = [f"{name}={found[name]:g}" for name in KINDS if name in found]
    return f"{','.join(parts)}{VERSION}{_VERSION}"


@dataclasses.dataclass(frozen=True)
class Asked:
    """The views that a run is asked for; None is what the file has, and of a new one the usual."""

    views: int | None = None
    recipe: str | None = None
    of: str | None = None
    at_least: bool = False
    """Whether a file that has more views than that keeps them."""
    make: bool = True
    """Whether views are made that are not known; else only those that are known are kept."""

    @classmethod
    def checked(cls, views: int | None, augment: str | None, of: str | None) -> "Asked":
        """Check each value, before anything heavy is loaded."""
        Augmentation(1 if views is None else views, of=TRAINING if of is None else of)
        return cls(views, None if augment is None else recipe_of(augment), of)

    def beside(self, before: Augmentation) -> Augmentation:
        """What they come to for a file that has the views of `before`."""
        views = before.views if self.views is None else self.views
        if self.at_least:
            views = max(views, before.views)
        if views > 1:
            recipe = self.recipe or before.recipe or recipe_of(TEXTBOOK)
            _require_makeable(recipe)
            return Augmentation(views, recipe, self.of or before.of)
        if self.recipe is not None or self.of == ALL:
            option = "views-of all" if self.recipe is None else "augment"
            raise WrongUsage(f"{option}: there are no views to make; ask for --views 2 or more")
        return NO_AUGMENTATION


AS_BEFORE: Final = Asked()
KEPT: Final = Asked(make=False)


def _require_makeable(recipe: str) -> None:
    """Refuse a recipe that was read somewhere and means something else here, or nothing."""
    try:
        same = recipe_of(changes(recipe)) == recipe
    except WrongUsage:
        same = False
    if not same:
        raise ProvenanceMismatch(
            f"views by {recipe!r} (changes; version) cannot be made by this headstart, whose "
            f"version of them is {_VERSION}; use the one that made them, or have them dropped by "
            f"a run with --views 1"
        )


def view(pixels: NDArray[np.uint8], digest: bytes, number: int, recipe: str) -> NDArray[np.uint8]:
    """One view of an image.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (size, size, 3)
        The image itself, decoded: its view 0.
    digest : bytes
        SHA-256 of the image file.
    number : int
        Of the view, from 1.
    recipe : str
        As `recipe_of` gives it.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)
    """
    plane, colours = np.eye(3), []
    for part in changes(recipe).split(","):
        name, _, amount = part.partition("=")
        kind = KINDS[name]
        draws = _draws(digest, number, recipe, name)
        if kind.moves is not None:
            plane = plane @ kind.moves(draws, float(amount))
        if kind.colours is not None:
            colours.append((kind.colours, draws, float(amount)))
    image = Image.fromarray(moved(pixels, plane))
    for colour, draws, strength in colours:
        image = colour(image, draws, strength)
    return np.asarray(image)


def moved(pixels: NDArray[np.uint8], plane: Plane) -> NDArray[np.uint8]:
    """(size, size, 3) pixels, each from its place by `plane` in the image or its reflection."""
    size = len(pixels)
    edge = math.ceil(_BEYOND * size) + 1
    # NumPy's "symmetric" is "reflect" in Keras: the outermost pixels are there twice.
    whole = Image.fromarray(np.pad(pixels, ((edge, edge), (edge, edge), (0, 0)), "symmetric"))
    to_sides = np.array([[1 / size, 0, -0.5], [0, 1 / size, -0.5], [0, 0, 1]])
    middle = edge + size / 2
    to_pixels = np.array([[size, 0, middle], [0, size, middle], [0, 0, 1]])
    coefficients = (to_pixels @ plane @ to_sides)[:2].ravel()
    return np.asarray(
        whole.transform(
            (size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )
    )


def _draws(digest: bytes, number: int, recipe: str, name: str) -> Draws:
    """The draws of one change; NumPy's generators may change theirs between versions."""
    drawn = hashlib.sha256(digest + f"{number} {recipe} {name}".encode()).digest()
    return np.frombuffer(drawn, "<u8") / 2.0**64
