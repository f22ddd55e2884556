"""The augmented views of examples: rows to train on that are no images of their own."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ...features.errors import WrongUsage
from ...features.provenance.augmentation import Augmentation
from ...features.store import FeatureStore
from ..solver.rows import Matrix, taken
from .stored import vectors


@dataclasses.dataclass(frozen=True)
class Augmented:
    """Views 1 and up of some images; the images themselves are rows elsewhere."""

    features: Matrix
    """(M, D) float32."""
    image: NDArray[np.intp]
    """(M,): which of the images each is of."""

    @classmethod
    def none(cls, dimension: int) -> "Augmented":
        """Where images have no views but themselves."""
        return cls(np.empty((0, dimension), np.float32), np.empty(0, np.intp))

    @classmethod
    def of(cls, store: FeatureStore, rows: NDArray[np.bool_]) -> "Augmented":
        """The views of those images of a file that have their own vectors in `rows`."""
        itself = store.views == 0
        if itself.all():
            return cls.none(store.dimension)
        # Rows are sorted by image and view: the image itself is the last view 0 before any other.
        place = np.where(rows[itself], np.cumsum(rows[itself]) - 1, -1)[np.cumsum(itself) - 1]
        chosen = ~itself & (place >= 0)
        return cls(vectors(store, chosen), place[chosen])

    def among(self, chosen: NDArray[np.bool_] | NDArray[np.intp], images: int) -> "Augmented":
        """Those of some of the images, each chosen once."""
        if not len(self.image):
            return self
        rows = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
        place = np.full(images, -1)
        place[rows] = np.arange(len(rows))
        kept = place[self.image] >= 0
        return Augmented(taken(self.features, kept), place[self.image[kept]])


def averaged(store: FeatureStore) -> str:
    """What to say of scores by the mean over views."""
    return f"probabilities are means over {store.augmentation.views} views of an image"


def require_fitting_views(store: FeatureStore, trained_with: Augmentation) -> None:
    """Refuse the mean over views for a head that was trained without any, or with others.

    Raises
    ------
    WrongUsage
        In these cases, or if the file has none.
    """
    require_trained(trained_with)
    if not trained_with.joins(store.augmentation.recipe):
        raise WrongUsage(
            f"{store.name}: its views were made by {store.augmentation.changes!r}, those that "
            f"the head was trained with by {trained_with.changes!r}; leave --tta out"
        )
    _require_any(store)


def require_views(store: FeatureStore, views: Augmented | None, images: int) -> None:
    """Refuse the mean over views for images of which any has none.

    Raises
    ------
    WrongUsage
        If there is such an image.
    """
    _require_any(store)
    lacking = images - (0 if views is None else len(np.unique(views.image)))
    if lacking:
        raise WrongUsage(
            f"{store.name}: --tta takes the mean over views, and {lacking:,} of the {images:,} "
            f"images have none (those of the test split have not by default); extract the images "
            f"again with --views-of all, or leave it out"
        )


def _require_any(store: FeatureStore) -> None:
    if store.augmentation.views == 1:
        raise WrongUsage(
            f"{store.name}: --tta takes the mean over views of an image, and this file has none; "
            f"extract the images again with --views 4, say, or leave it out"
        )


def require_trained(made: Augmentation) -> None:
    """Refuse the mean over views for a head that was trained without any."""
    if made.views == 1:
        raise WrongUsage(
            "this head was trained without views, so --tta has no recipe to make any by; train it "
            "on a file that was extracted with --views 4, say, or leave --tta out"
        )
