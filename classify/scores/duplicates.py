"""Vectors of images -> which of them are near-copies: one photograph saved, cut or shot again."""

import functools
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .space import Space, drawn, parts

NEARER: Final = 0.5
"""A near-copy is nearer than 0.5 x apart^2, where distances are 1 - cosine and apart is that of the
surroundings. The square: among images that are much alike, a copy is nearer by more.

Percent found with MobileNetV2 at 150 / 224 pixels (`benchmarks/copies.py`), beside cosines of
centred vectors above 0.9, and above 0.9 or else above 0.6 and 0.3 above the tenth neighbour:

====================================  ===========  ===========  ===========
copies of 600 photographs             here         0.9          or tenth
====================================  ===========  ===========  ===========
saved at quality 40                   100 / 100    99 / 94      100 / 100
crop by a tenth                       99 / 100     20 / 36      99 / 100
mirror                                100 / 100    32 / 55      100 / 100
burst: moved, turned, brighter        100 / 100    42 / 53      100 / 100
thumbnail, a file of 100 pixels       95 / 50      1 / 0        80 / 26
thumbnail of 64                       19 / 5       0 / 0        13 / 2
crop by a fifth, mirror, quality 40   84 / 93      1 / 0        69 / 79
each in 6 versions                    94 / 86      43 / 51      86 / 81
each in 15 versions                   96 / 95      55 / 62      55 / 62
different ones, taken for copies      3 / 3        0 / 0        3 / 2
1,797 digits, taken for copies        3 / 2        2 / 5        3 / 5
====================================  ===========  ===========  ===========

Of those digits 7 / 4 are in the largest group, and 26 / 67 by either of the other rules. With 0.65
throughout, 31 / 7% of the smallest thumbnails are found, and 5 / 6% of different photographs taken
for copies.
"""
FEW_NEARER: Final = 0.2
"""Added where there are no more images than components, and less the more there are: the fewer
images, the less do two that are no copies have in common."""
LEAST: Final = 0.4
"""The cosine of near-copies exceeds this, however far off all others are."""
_NEIGHBOURS: Final = (10, 30)
"""The surroundings are the 30th neighbour, and of fewer than 300 images that whose rank is a tenth
of them: with the 10th throughout, of 40 photographs in 15 versions each 21% are found instead of
92%; with the 30th throughout, 56 of 100 different plots are taken for copies instead of 17."""
_QUARTER: Final = 4
"""Or the cosine that a quarter of the class has, if that is higher: of 105 characters, each in 8
typefaces, 5% are taken for copies with it and 60% without; in 97 typefaces, 17% and 61%."""
_CHANCE: Final = 0.01
"""In few dimensions one of many neighbours is near by chance: of r that are spread evenly in k
dimensions, the chance that one is nearer than a share t of the distance of the r-th is r t^k."""
FAR: Final = 300
"""Rows, drawn at random, that tell of an image whether its neighbours are versions of it: of these
the 30th neighbour is none, unless a tenth of all rows are."""
_EQUAL: Final = 1e-6  # 1 - the cosine of equal vectors is less

_REFERENCE: Final = 256  # images of a class that its others are compared with


class Likeness:
    """Near-copies among the rows of a matrix.

    Two images are near-copies if the cosine of their vectors in `Space` exceeds the limits of
    both. The limit of an image is the higher, the more alike the images around it are: different
    handwritten digits are more alike than two shots of one dog.

    Parameters
    ----------
    vectors : ndarray of float32, shape (N, k)
        Images in `Space`, each once: files of the same bytes would be each other's surroundings.
    labels : ndarray of int, shape (N,), optional
        Classes, for those whose images are much alike.
    of_class, far : ndarray of float32, shapes (N,) and (m, k), optional
        Where these are some of more images, of all: `of_classes`, and the vectors of a few.

    Notes
    -----
    Takes N^2 k multiplications, or twice as many where most images have copies, in blocks of 16 MB.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        labels: NDArray[np.intp] | None = None,
        *,
        of_class: NDArray[np.float32] | None = None,
        far: NDArray[np.float32] | None = None,
    ) -> None:
        self.vectors = vectors
        self.around, nearest = surroundings(vectors)
        """(N,) cosines with images that are hardly copies."""
        if of_class is None:
            nothing = np.full(len(vectors), -1, np.float32)
            of_class = nothing if labels is None else of_classes(vectors, labels)
        self.masses = self._in_masses(of_class, far)
        """(N,) the same row for rows of an image that is there in masses; else each row itself."""
        self.kept = np.unique(self.masses)
        """One row of each of those, and all others."""
        if len(self.kept) < len(vectors):
            self.around, _ = surroundings(vectors, vectors[self.kept])
        self.around = np.maximum(self.around, of_class)
        self.limits = _limits(self.around, len(self.kept), vectors.shape[1])
        """(N,) cosines that a near-copy of each row exceeds."""
        self._candidates = nearest > self.limits

    def _in_masses(
        self, of_class: NDArray[np.float32], others: NDArray[np.float32] | None
    ) -> NDArray[np.intp]:
        """`masses`: images whose surroundings are near-copies by what is far from them."""
        vectors, rows = self.vectors, len(self.vectors)
        if others is None and rows <= FAR:
            return np.arange(rows)
        far, _ = surroundings(vectors, vectors[drawn(rows, FAR)] if others is None else others)
        limit = _limits(np.maximum(far, of_class), rows, vectors.shape[1])
        members = np.flatnonzero(self.around > limit)

        def pairs() -> Iterator[tuple[slice, NDArray[np.bool_]]]:
            for part in parts(len(members), len(members)):
                highest = np.maximum(limit[members[part], None], limit[members])
                yield part, vectors[members[part]] @ vectors[members].T > highest

        return _linked(rows, members, pairs())

    def nearest(
        self,
        rows: NDArray[np.intp],
        among: NDArray[np.intp],
        labels: NDArray[np.intp] | None = None,
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """For each of `rows`, the most alike of its near-copies `among` others, and the cosine.

        Where it has none, the partner is -1 and the cosine 0. With (N,) `labels`, only those with
        another label count.
        """
        partners = np.full(len(rows), -1)
        highest = np.zeros(len(rows), np.float32)
        places = np.flatnonzero(self._candidates[rows])
        others = among[self._candidates[among]]
        for part, cosines, pairs in self._pairs(rows[places], others):
            if labels is not None:
                pairs &= labels[rows[places[part]], None] != labels[others]
            cosines *= pairs
            best = cosines.argmax(axis=1)
            values = cosines[np.arange(len(best)), best]
            partners[places[part]] = np.where(values > 0, others[best], -1)
            highest[places[part]] = values
        return partners, highest

    @classmethod
    def of(
        cls, features: NDArray[np.floating], labels: NDArray[np.intp] | None = None
    ) -> "Likeness":
        """That of (N, D) features, in a space of their own."""
        return cls(Space.of(features).vectors(features), labels)

    @functools.cached_property
    def partners(self) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """(N,) the most alike near-copy of each row, or -1; (N,) their cosine, or 0."""
        everything = np.arange(len(self.vectors))
        return self.nearest(everything, everything)

    @functools.cached_property
    def chains(self) -> NDArray[np.intp]:
        """(N,) the same number for rows that a chain of near-copies leads between."""
        members = np.flatnonzero(self._candidates)
        pairs = ((part, pairs) for part, _, pairs in self._pairs(members, members))
        return _linked(len(self.vectors), members, pairs)

    def _pairs(
        self, rows: NDArray[np.intp], among: NDArray[np.intp]
    ) -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.bool_]]]:
        """Parts of `rows`, their cosines with those `among`, and which are near-copies."""
        right, limit = self.vectors[among], self.limits[among]
        places = np.full(len(self.vectors), -1)
        places[among] = np.arange(len(among))
        for part in parts(len(rows), len(among)) if len(among) else ():
            block = rows[part]
            cosines = self.vectors[block] @ right.T
            pairs = cosines > limit
            pairs &= cosines > self.limits[block, None]
            itself = np.flatnonzero(places[block] >= 0)
            pairs[itself, places[block[itself]]] = False
            yield part, cosines, pairs


def limits(
    around: NDArray[np.float32], rows: int, columns: int, nearer: float, least: float
) -> NDArray[np.float32]:
    """(M,) cosines that near-copies exceed, by those of `surroundings` among (rows, columns)."""
    # Vectors of length one have a dimension less, and 1 - cosine is half the distance squared.
    even = (_CHANCE / _rank(rows)) ** (2 / max(columns - 1, 1))
    apart = 1 - around
    nearest = apart * np.minimum(nearer * apart, even)
    return np.asarray(np.clip(1 - nearest, least, 1 - _EQUAL), np.float32)


def _limits(around: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    return limits(around, rows, columns, NEARER + FEW_NEARER * min(1, columns / rows), LEAST)


def _rank(rows: int) -> int:
    return int(np.clip(rows // 10, *_NEIGHBOURS))


def surroundings(
    vectors: NDArray[np.float32], among: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(M,) cosines with a neighbour that is hardly a copy, and (M,) with the nearest one.

    Neighbours are those `among`; if there are none, the other vectors.
    """
    others = vectors if among is None else among
    around, nearest = np.full((2, len(vectors)), -1, np.float32)
    place = max(0, len(others) - _rank(len(others)))
    for part in parts(len(vectors), len(others)):
        cosines = vectors[part] @ others.T
        if among is None:
            np.fill_diagonal(cosines[:, part.start :], -1)
        nearest[part] = cosines.max(axis=1)
        cosines.partition(place, axis=1)
        around[part] = cosines[:, place]
    return around, nearest


def of_classes(vectors: NDArray[np.floating], labels: NDArray[np.intp]) -> NDArray[np.float32]:
    """(N,) cosines that each vector has with a quarter of its class or more.

    One or two images say nothing of their class. Their cosine is what is usual in the others, or
    where all classes are so small, between the two of one.
    """
    found = np.full(len(vectors), -1, np.float32)
    order = np.argsort(labels, kind="stable")
    usual, pairs, small = [], [], []
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        reference = members[drawn(len(members), _REFERENCE)]
        place = len(reference) - max(2, -(-len(reference) // _QUARTER))
        if place < 1:
            small.append(members)
            pairs += (vectors[members[:1]] @ vectors[members[1:]].T).ravel().tolist()
            continue
        for part in parts(len(members), len(reference)):
            one, other = (
                vectors[own].astype(np.float32, copy=False) for own in (members[part], reference)
            )
            cosines = one @ other.T
            cosines[members[part][:, None] == reference] = -1
            cosines.partition(place, axis=1)
            found[members[part]] = cosines[:, place]
        usual.append(np.median(found[members]))
    if small and (usual or pairs):
        found[np.concatenate(small)] = np.median(usual or pairs)
    return found


def _linked(
    rows: int, members: NDArray[np.intp], pairs: Iterable[tuple[slice, NDArray[np.bool_]]]
) -> NDArray[np.intp]:
    """(rows,) the same row for those `members` that pairs lead between; else each row itself.

    Pairs come as parts of the members, and which of all members each of the part is linked to.
    """
    joined = np.arange(len(members))
    for part, linked in pairs:
        joined = _join(joined, part, linked)
    _, first = np.unique(joined, return_index=True)
    found = np.arange(rows)
    found[members] = members[first][joined]
    return found


def _join(joined: NDArray[np.intp], part: slice, pairs: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(N,) components, joined by (n, N) pairs of the rows in `part` with all.

    Each round joins every component that is still to be joined with another, by one pair a row and
    one a column (Boruvka 1926), so that rounds are few and no list of all pairs is made: among
    25,000 copies there are 300 million.
    """
    rows = np.arange(part.start, part.stop)
    while True:
        pairs &= joined[part, None] != joined
        left, right = np.flatnonzero(pairs.any(axis=1)), np.flatnonzero(pairs.any(axis=0))
        if not len(left):
            return joined
        one = np.concatenate([rows[left], rows[pairs[:, right].argmax(axis=0)]])
        other = np.concatenate([pairs[left].argmax(axis=1), right])
        edges = coo_array((np.ones(len(one)), (joined[one], joined[other])), (len(joined),) * 2)
        numbers: NDArray[np.int32] = connected_components(edges, directed=False)[1]
        joined = numbers[joined].astype(np.intp)
