"""Labels, and what a head says of all images -> in which order they are worth looking at."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...classify.studies.learner import Beliefs, Doubts
from .labels import DRAWING, SHARE, Labels

QUEUES: Final = ("uncertain", "suspects", "near-copies", "unfamiliar", "random", "all")

Images = NDArray[np.intp]


def uncertain(labels: Labels, beliefs: Beliefs | None) -> Images:
    """Unlabelled images, those first of which the head is least certain; every tenth is drawn.

    As long as there is no head they come in a random order.
    """
    others, kept = labels.order[~labels.kept[labels.order]], labels.order[labels.kept[labels.order]]
    others, kept = (one[labels.codes[one] < 0] for one in (others, kept))
    if beliefs is not None:
        others = others[np.argsort(beliefs.margin[others], kind="stable")]
    asked, drawn = labels.asked
    # So many are due before the next one that is drawn, then before the one after, ...
    places = (drawn + np.arange(len(kept)) + 1) * SHARE - 1 - asked
    return _woven(others, kept, np.maximum(places, 0))


def _woven(images: Images, drawn: Images, places: Images) -> Images:
    """Both in their orders, the drawn ones at the places that they have in the whole."""
    places = np.maximum.accumulate(places + 0)
    # No two at one place; what is beyond the end follows the others.
    places = np.maximum.accumulate(places - np.arange(len(places))) + np.arange(len(places))
    whole = np.full(len(images) + len(drawn), -1)
    inside = places < len(whole)
    whole[places[inside]] = drawn[inside]
    rest = np.concatenate([images, drawn[~inside]])
    whole[whole < 0] = rest
    return whole


def random(labels: Labels) -> Images:
    """Unlabelled images in a random order, first those that are kept for the estimate."""
    return labels.order[labels.codes[labels.order] < 0]


def unfamiliar(labels: Labels, strangeness: NDArray[np.float32]) -> Images:
    """Unlabelled images that resemble no labelled one; where all have labels, no other one."""
    images = np.flatnonzero(labels.codes < 0)
    if not len(images):
        images = np.arange(len(labels.codes))
    return images[np.argsort(-strangeness[images], kind="stable")]


def suspects(labels: Labels, doubts: Doubts | None) -> Images:
    """Images whose label is improbable to a head without them; those that were checked are not."""
    if doubts is None:
        return np.empty(0, np.intp)
    images = doubts.suspects(labels.codes)
    return images[~labels.checked[images]]


def near_copies(labels: Labels, groups: NDArray[np.intp]) -> Images:
    """Images that have near-copies, group by group.

    First the groups with several labels, then those with some images unlabelled, then the others.
    """
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    several = sizes[number] > 1
    images = np.flatnonzero(several)
    if not len(images):
        return images
    codes, own = labels.codes[images], number[images]
    most = np.full(len(sizes), -1)
    least = np.full(len(sizes), np.iinfo(np.int32).max)
    np.maximum.at(most, own, codes)
    np.minimum.at(least, own, np.where(codes < 0, least[own], codes))
    none = np.bincount(own, codes < 0, len(sizes)) > 0
    conflict = (most >= 0) & (least < most)
    rank = np.where(conflict, 0, np.where(none & (most >= 0), 1, np.where(none, 2, 3)))
    return images[np.lexsort((images, own, rank[own]))]


def lassoed(
    labels: Labels,
    name: str,
    images: Images,
    places: NDArray[np.float32],
    polygon: Sequence[Sequence[float]],
) -> Images:
    """Images of a queue that a line is drawn around.

    Images that are kept for the estimate stay out of the queues that draw them: a cluster that is
    labelled at once is an easy one, and an estimate of the others alone would be too low.
    """
    chosen: Images = images[inside(places[images], polygon)]
    if name not in DRAWING:
        return chosen
    due: Images = chosen[~labels.kept[chosen] | (labels.codes[chosen] >= 0)]
    return due


def inside(places: NDArray[np.float32], polygon: Sequence[Sequence[float]]) -> NDArray[np.bool_]:
    """(M,): which of (M, 2) places are inside a polygon, by how often a ray crosses its sides."""
    x, y = places[:, 0], places[:, 1]
    found = np.zeros(len(places), np.bool_)
    for (ax, ay), (bx, by) in zip(polygon, [*polygon[1:], *polygon[:1]], strict=True):
        if ay == by:
            continue
        crosses = ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
        found ^= crosses
    return found
