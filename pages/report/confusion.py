"""Which class is taken for which: counts, and the images behind them."""

import dataclasses
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...classify import Review
from ...classify.scores.evaluation import Scores

WRITTEN: Final = 24
"""Classes up to which the matrix is a table with every number in it; of more it is a picture."""
_OPENED: Final = 400
"""Cells whose images can be opened: the most frequent mistakes, then what is right."""
_DRAWN: Final = 4000
"""Cells of the picture; of thousands of classes the most frequent mistakes."""
_IMAGES: Final = 600
"""Images of all cells together, about; each cell has some."""
_OF_A_CELL: Final = (4, 30)
LEVELS: Final = 8
"""Tints of cells, by the share of the true class."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """The images of one class that are taken for one class."""

    number: int
    truth: int
    predicted: int
    images: int
    share: float
    """Of the images of the true class."""
    places: tuple[int, ...] = ()
    """Of those images that may be shown, in `Review.rows`: the most confident mistakes, or what is
    right with the least confidence."""
    opens: bool = False

    @property
    def right(self) -> bool:
        """Whether it is on the diagonal."""
        return self.truth == self.predicted

    @property
    def level(self) -> int:
        """Tint, from 0 to `LEVELS`."""
        return int(np.ceil(self.share * LEVELS))


@dataclasses.dataclass(frozen=True)
class Confusion:
    """All cells that have images."""

    classes: int
    cells: tuple[Cell, ...]
    """Mistakes first, the most frequent first; then what is right."""

    @classmethod
    def of(cls, scores: Scores, review: Review) -> "Confusion":
        """Count by the scores, and find the images of the most frequent cells."""
        truth, predicted, counts = np.array(scores.confusion, np.int64).reshape(-1, 3).T
        of_class = np.bincount(truth, counts, len(scores.per_class))
        wrong = truth != predicted
        order = np.lexsort((predicted, truth, -counts, ~wrong))
        places = _places(review)
        opened = min(_OPENED, len(order))
        fewest, most = _OF_A_CELL
        shown = min(max(_IMAGES // max(opened, 1), fewest), most)
        cells = []
        for number, cell in enumerate(order.tolist()):
            pair = int(truth[cell]), int(predicted[cell])
            found = places.get(pair, ()) if number < opened else ()
            images = int(counts[cell])
            share = images / of_class[pair[0]]
            few = tuple(found[:shown])
            cells.append(Cell(number, *pair, images, float(share), few, bool(few)))
        return cls(len(scores.per_class), tuple(cells))

    @property
    def table(self) -> list[list[Cell | None]]:
        """A list for each true class, of each predicted class."""
        found = {(cell.truth, cell.predicted): cell for cell in self.cells}
        every = range(self.classes)
        return [[found.get((truth, predicted)) for predicted in every] for truth in every]

    @property
    def drawn(self) -> tuple[Cell, ...]:
        """The cells of the picture."""
        return self.cells[:_DRAWN]

    @property
    def mistakes(self) -> tuple[Cell, ...]:
        """Cells beside the diagonal."""
        return tuple(cell for cell in self.cells if not cell.right)

    @property
    def opened(self) -> tuple[Cell, ...]:
        """Cells whose images can be seen."""
        return tuple(cell for cell in self.cells if cell.opens)

    @property
    def of_right(self) -> dict[int, Cell]:
        """Class -> its images that are right, if they can be seen."""
        return {cell.truth: cell for cell in self.cells if cell.right and cell.opens}


def _places(review: Review) -> dict[tuple[int, int], list[int]]:
    """(true, predicted class) -> places in `Review.rows`, in the order in which they are shown."""
    if not len(review.rows):
        return {}
    wrong = review.truth != review.predicted
    worth: NDArray[np.float64] = np.where(wrong, -review.confidence, review.confidence)
    order = np.lexsort((worth, review.predicted, review.truth))
    pairs = np.stack([review.truth[order], review.predicted[order]])
    starts = np.flatnonzero(np.r_[True, (pairs[:, 1:] != pairs[:, :-1]).any(axis=0)])
    return {
        (int(pairs[0, start]), int(pairs[1, start])): part.tolist()
        for start, part in zip(starts.tolist(), np.split(order, starts[1:]), strict=True)
    }
