"""Examples of which the vectors are in a file -> some of them, in memory, to choose by."""

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...features.errors import TrainingError, count
from ..solver.memory import free_memory
from ..solver.rows import held
from . import Examples

ROWS: Final = 25_000
"""That parameters are chosen by, views counted; of 5,000 held-out rows more would hardly choose
otherwise (`crossfit`)."""
BYTES: Final = 256 << 20
"""That their vectors may take. What is drawn depends on the seed, the rows and their length, and
not on the memory that happens to be free: the same seed gives the same head."""
_FEWEST: Final = 8
"""Images of a class that are drawn, as far as that is no more than half of them, and of all classes
together no more than half of the draw."""
_PEAK: Final = 4.5
"""Memory that learning from vectors takes, in multiples of theirs."""
_NEARLY: Final = 0.95
"""Share of held-out rows from which on their mix of classes is as good as the file's."""
_USUAL: Final = 0.1
"""Quantile, over images, of the share that their class is drawn with: that of large classes."""


@dataclasses.dataclass(frozen=True)
class Draw:
    """Rows of examples, in order."""

    rows: NDArray[np.intp]
    """That are drawn."""
    beside: NDArray[np.intp]
    """All others of their groups: where these are held out nothing may be scored."""


def sample(examples: Examples, seed: int, fewest: int) -> Draw:
    """Rows of a draw from all classes, `_room` of them at most, or one a class if that is more.

    Groups are drawn at random, each class with the same share of its groups, but a rare one with a
    few more: with `fewest`, which cross-validation needs, if it has them. Of groups too large for
    the draw only some rows are in it.
    """
    generator = np.random.default_rng(seed)
    of_groups, group, sizes = np.unique(examples.groups, return_inverse=True, return_counts=True)
    room = _room(examples)
    code = _rarest(examples, group)
    of_class = np.bincount(code, minlength=len(examples.names))
    wanted = _wanted(of_class, room, room / len(examples), fewest, generator)
    shuffled = generator.permutation(len(of_groups))
    shuffled = shuffled[np.argsort(code[shuffled], kind="stable")]
    place = np.arange(len(shuffled)) - (np.cumsum(of_class) - of_class)[code[shuffled]]
    drawn = np.zeros(len(of_groups), np.bool_)
    drawn[shuffled[place < wanted[code[shuffled]]]] = True
    # Where every group of a class has a rarer one too, chance may have left it out.
    present, first = np.unique(examples.codes, return_index=True)
    left_out = ~np.isin(present, examples.codes[drawn[group]])
    drawn[group[first[left_out]]] = True
    most = _most_of_each(sizes[drawn], room)
    inside = drawn[group] & (_place_in_group(examples.codes, group, generator) < most)
    left_out = ~np.isin(present, examples.codes[inside])
    inside[first[left_out]] = True
    return Draw(np.flatnonzero(inside), np.flatnonzero(drawn[group] & ~inside))


def as_frequent_as_in_the_file(
    examples: Examples, folds: list[NDArray[np.intp]], seed: int
) -> list[NDArray[np.intp]]:
    """Rows of the draw that are held out -> so few of rare classes that shares are the file's.

    Whole groups stay or go. Where that would leave nothing of a fold, or of all classes but one,
    or nearly everything, everything stays.
    """
    held_out = np.concatenate(folds)
    counts = np.bincount(examples.codes)
    share = np.bincount(examples.codes[held_out], minlength=len(counts)) / np.maximum(counts, 1)
    own = share[examples.codes[held_out]]
    # As many images of the file stand behind each.
    usual = np.quantile(own, _USUAL, weights=1 / own, method="inverted_cdf")
    _, group = np.unique(examples.groups[held_out], return_inverse=True)
    kept = np.bincount(group, np.minimum(usual / own, 1)) / np.bincount(group)
    # Systematic sampling, class by class: as many as expected, but for one.
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(kept))
    of_group = np.zeros(len(kept), np.intp)
    of_group[group] = examples.codes[held_out]
    order = order[np.argsort(of_group[order], kind="stable")]
    edges = np.floor(np.cumsum(kept[order]) + generator.uniform())
    stays = np.zeros(len(kept), np.bool_)
    stays[order] = np.diff(edges, prepend=0) > 0
    rows = held_out[stays[group]]
    thinned = [fold[np.isin(fold, rows)] for fold in folds]
    few = len(np.unique(examples.codes[rows])) < 2 or not all(map(len, thinned))
    return folds if few or len(rows) > _NEARLY * len(held_out) else thinned


def in_memory(examples: Examples, name: str) -> Examples:
    """The same with their vectors in memory; refuses what would not fit, of the file `name`."""
    further = examples.augmented
    rows = len(examples) + (0 if further is None else len(further.image))
    needed = int(_PEAK * 4 * rows * examples.features.shape[1])
    if needed > free_memory():
        raise TrainingError(
            f"{name}: choosing parameters on {count(rows, 'vector')} takes about "
            f"{needed / 1e9:.1f} GB of memory, and {free_memory() / 1e9:.1f} GB are free; close "
            f"other programs, or use a machine with more memory"
        )
    if further is not None:
        further = dataclasses.replace(further, features=held(further.features))
    return dataclasses.replace(examples, features=held(examples.features), augmented=further)


def require_room(examples: Examples, name: str) -> None:
    """Refuse more classes than there are images to choose by, of the file `name`."""
    classes, room = len(np.unique(examples.codes)), _room(examples)
    if classes > room:
        raise TrainingError(
            f"{name}: its vectors stay in the file, and parameters are chosen on {room:,} images "
            f"at most, fewer than its {classes:,} classes; leave small classes out with "
            f"--min-images, or use a machine with memory for all vectors"
        )


def _room(examples: Examples) -> int:
    """Images that fit, with their views."""
    further = 0 if examples.augmented is None else len(examples.augmented.image)
    rows = min(ROWS, BYTES // (4 * examples.features.shape[1]))
    return max(1, int(rows * len(examples) / (len(examples) + further)))


def _rarest(examples: Examples, group: NDArray[np.intp]) -> NDArray[np.intp]:
    """For each group the rarest of its classes, which it counts for."""
    counts = np.bincount(examples.codes, minlength=len(examples.names))
    order = np.lexsort((-counts[examples.codes], group))
    code = np.empty(int(group.max()) + 1, np.intp)
    code[group[order]] = examples.codes[order]  # the last of each group stays
    return code


def _wanted(
    of_class: NDArray[np.intp],
    room: int,
    share: float,
    fewest: int,
    generator: np.random.Generator,
) -> NDArray[np.intp]:
    """Groups to draw of each class, which has so many of them."""
    classes = np.count_nonzero(of_class)
    floor = int(np.clip(room // (2 * classes), 1, _FEWEST))
    least = np.maximum(of_class // 2, np.minimum(of_class, fewest))
    if floor < fewest:
        # Half of what is left after one of each gives some classes enough to be held out.
        number = max(0, (room - floor * classes) // (2 * (fewest - floor)))
        able = np.flatnonzero(of_class >= fewest)
        lucky = generator.permutation(able)[:number]
        floors = np.full(len(of_class), floor)
        floors[lucky] = fewest
        least = np.minimum(least, floors)
    else:
        least = np.minimum(least, floor)
    most = max(share * of_class.sum(), least.sum())
    low, high = 0.0, 0.5
    for _ in range(50):
        middle = (low + high) / 2
        fits = np.maximum(least, middle * of_class).sum() <= most
        low, high = (middle, high) if fits else (low, middle)
    # Rounded so that they add up.
    edges = np.floor(np.cumsum(np.maximum(least, low * of_class)) + generator.uniform())
    wanted: NDArray[np.intp] = np.diff(edges, prepend=0).astype(np.intp)
    return wanted


def _most_of_each(sizes: NDArray[np.intp], room: int) -> int:
    """Rows that no group may exceed, so that all of them fit; at least one."""
    low, high = 1, max(1, int(sizes.max()))
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(sizes, middle).sum() <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _place_in_group(
    codes: NDArray[np.intp], group: NDArray[np.intp], generator: np.random.Generator
) -> NDArray[np.intp]:
    """(N,): how many of its group come before each row; by chance, but first one of each class."""
    chance = generator.uniform(size=len(codes))
    order = np.lexsort((chance, codes, group))
    begins = np.ones(len(codes), np.bool_)
    begins[1:] = (np.diff(group[order]) != 0) | (np.diff(codes[order]) != 0)
    chance[order[begins]] -= 1
    order = np.lexsort((chance, group))
    place = np.empty(len(codes), np.intp)
    sizes = np.bincount(group)
    place[order] = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return place
