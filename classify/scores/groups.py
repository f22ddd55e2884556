"""Images and what is known of them -> which belong together in folds, scores and intervals."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..solver.rows import Matrix, Stored
from .cells import EXACTLY, chains_in_cells
from .duplicates import Likeness
from .space import Space


class Grouping:
    """Which rows belong together: near-copies, equal bytes, and what the user said does.

    Parameters
    ----------
    features : ndarray of float, shape (N, D)
        Vectors. Where they are in a file and more than 50,000, near-copies are sought in cells
        (`cells`).
    identities : ndarray of uint64, shape (N,)
        Equal for files of the same bytes.
    given : ndarray of int, shape (N,), optional
        The user's own groups; negative where a row has none.
    labels : ndarray of int, shape (N,), optional
        Classes: where most images of one are much alike, its near-copies have to be more so.

    Attributes
    ----------
    groups : ndarray of intp, shape (N,)
        Numbered from 0 in the order of their first rows.
    images : ndarray of intp, shape (M,)
        The first row of each image: the rows that `likeness` is of.
    space : Space
        In which they are compared.
    likeness : Likeness or None
        The near-copies among them; None if they were sought in cells.
    """

    def __init__(
        self,
        features: Matrix,
        identities: NDArray[np.uint64],
        given: NDArray[np.integer] | None = None,
        labels: NDArray[np.intp] | None = None,
    ) -> None:
        _, self.images, self._image = np.unique(identities, return_index=True, return_inverse=True)
        self.space = Space.of(features)
        of_images = None if labels is None else labels[self.images]
        self.likeness: Likeness | None = None
        if isinstance(features, Stored) and len(self.images) > EXACTLY:
            halves = self.space.halves(features)
            if len(self.images) < len(features):
                halves = halves[self.images]
            joined = [chains_in_cells(halves, of_images)[self._image]]
        else:
            vectors = self.space.vectors(features)[self.images]
            self.likeness = Likeness(vectors, of_images)
            joined = [of[self._image] for of in (self.likeness.chains, self.likeness.masses)]
        if given is not None:
            _, numbers = np.unique(given, return_inverse=True)
            own = np.arange(len(given)) + len(given)
            joined.append(np.where(given < 0, own, numbers))
        self.groups = together(*joined)

    def partners(
        self, labels: NDArray[np.intp] | None = None
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """(N,) the most alike near-copy of each row among other images, or -1; (N,) their cosine.

        Of several files of the same bytes it is the first. With (N,) `labels`, only those with
        another label count.
        """
        if self.likeness is None:
            raise TypeError("partners of near-copies that were sought in cells are not known")
        if labels is None:
            images, cosines = self.likeness.partners
        else:
            everything = np.arange(len(self.images))
            images, cosines = self.likeness.nearest(everything, everything, labels[self.images])
        rows = np.where(images < 0, -1, self.images[images])
        return rows[self._image], cosines[self._image]


def groups(
    features: Matrix,
    identities: NDArray[np.uint64],
    given: NDArray[np.integer] | None = None,
    labels: NDArray[np.intp] | None = None,
) -> NDArray[np.intp]:
    """(N,) `Grouping.groups` alone."""
    return Grouping(features, identities, given, labels).groups


def together(*numbers: NDArray[np.integer]) -> NDArray[np.intp]:
    """Join rows that have a number in common in any of several (N,) columns.

    Returns (N,) groups, numbered from 0 in the order of their first rows.
    """
    rows = len(numbers[0])
    row, member, made = np.arange(rows), [], rows
    for column in numbers:
        _, places = np.unique(column, return_inverse=True)
        member.append(places + made)
        made += rows
    edges = coo_array(
        (np.ones(rows * len(member)), (np.tile(row, len(member)), np.concatenate(member))),
        (made, made),
    )
    joined = connected_components(edges, directed=False)[1][:rows]
    _, first, places = np.unique(joined, return_index=True, return_inverse=True)
    order: NDArray[np.intp] = np.argsort(np.argsort(first))[places]
    return order
