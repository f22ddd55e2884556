"""Tables of `honesty.py`: what is said of labels that mean nothing, and what intervals hold.

Each function returns rows, plain dictionaries; a pair of numbers is a mean and its standard error.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from headstart.classify import Head, evaluate, train, train_all
from headstart.features.errors import TrainingError, WrongUsage
from honesty_data import VERSIONS, Images, Vectors, made_images

HEADS = ("logistic", "prototype", "svm", "svm-rbf", "auto", "all")
"""Every kind there is, and the two ways to have one chosen."""
VERSIONS_OF_EACH, RE_ENCODED = "6 versions of each", "re-encoded"
SCORED = ("cross-validation", "test split", VERSIONS_OF_EACH, RE_ENCODED)

Row = dict[str, Any]


def mean(values: Iterable[float]) -> list[float]:
    """The mean, and its standard error."""
    numbers = np.array(list(values), float)
    error = numbers.std(ddof=1) / np.sqrt(len(numbers)) if len(numbers) > 1 else 0.0
    return [float(numbers.mean()), float(error)]


def fitted(store: Vectors, head: str, **how: Any) -> Head:
    return train_all(store, **how)[0] if head == "all" else train(store, head, **how)


@functools.cache
def known(head: str) -> bool:
    """Whether this version has it."""
    images = made_images(24, 2, 0, dimension=8)
    try:
        fitted(Vectors(images.vectors, images.labels), head)
    except WrongUsage:
        return False
    return True


def draw(labels: np.ndarray, each: int, generator: np.random.Generator) -> np.ndarray:
    """Rows: as many of every class, in any order."""
    shuffled = generator.permutation(len(labels))
    return np.concatenate([shuffled[labels[shuffled] == one][:each] for one in np.unique(labels)])


def permutation(
    data: Sequence[Images],
    *,
    heads: Sequence[str] = HEADS,
    ways: Sequence[str] = SCORED,
    rows: int = 120,
    repeats: int = 15,
) -> list[Row]:
    """Labels that mean nothing: accuracy is chance, and the interval holds it in 95 of 100 cases.

    They are permuted among images, or drawn for each image of which there are six versions; or a
    head is asked about its training images, which were only saved anew.
    """
    table = []
    for images in data:
        classes = len(np.unique(images.labels))
        for head in filter(known, heads):
            for way in ways:
                if not images.copies and way in (VERSIONS_OF_EACH, RE_ENCODED):
                    continue
                found = []
                for seed in range(repeats):
                    generator = np.random.default_rng([seed, 2])
                    number = rows // 2 if way == VERSIONS_OF_EACH else rows
                    chosen = draw(images.labels, number // classes, generator)
                    labels = generator.permutation(images.labels[chosen])
                    found.append(_meaningless(images, chosen, labels, head, way))
                scores = [one for one in found if one]
                entry: Row = {"data": images.name, "scored": way, "images": len(chosen)}
                entry |= {"chance": 1 / classes, "head": head}
                entry["refused"] = mean(one is None for one in found)
                if scores:
                    entry["accuracy"] = mean(one.accuracy for one in scores)
                    entry["log loss"] = mean(one.log_loss for one in scores)
                    entry["chance in the interval"] = mean(
                        one.interval[0] <= 1 / classes <= one.interval[1] for one in scores
                    )
                table.append(entry)
    return table


def _meaningless(
    images: Images, chosen: np.ndarray, labels: np.ndarray, head: str, way: str
) -> Any:
    """Scores, or None if scoring was refused."""
    vectors = images.vectors[chosen]
    if way == "cross-validation":
        return fitted(Vectors(vectors, labels), head).scores
    if way == VERSIONS_OF_EACH:
        vectors, image = images.versions(chosen, VERSIONS)
        return fitted(Vectors(vectors, labels[image]), head).scores
    if way == RE_ENCODED:
        made = fitted(Vectors(vectors, labels), head)
        try:
            return evaluate(
                made, Vectors(images.copies[way][chosen], labels, contents=chosen + 1000000)
            )
        except TrainingError:
            return None
    splits = np.full(len(labels), "train")
    # Half of each class. They come ordered by their true class, which must not show in the halves.
    shuffled = np.random.default_rng(9).permutation(len(labels))
    splits[shuffled[np.argsort(labels[shuffled], kind="stable")[::2]]] = "test"
    return fitted(Vectors(vectors, labels, splits), head).scores


WAYS = (
    ("cross-validation", 60, 0, False),
    ("cross-validation", 200, 0, False),
    ("test split", 60, 50, False),
    ("cross-validation, 6 versions of each", 40, 0, True),
    ("test split, 6 versions of each", 60, 40, True),
)
"""How scored, training images, test images, and whether the scored ones come in six versions."""


def coverage(
    data: Sequence[Images] = (),
    *,
    heads: Sequence[str] = ("logistic", "auto"),
    sets: int = 200,
    further: int = 3000,
    ways: Sequence[tuple[str, int, int, bool]] = WAYS,
    dimension: int = 256,
) -> list[Row]:
    """How often the 95 % interval holds the accuracy on `further` images of made data.

    Each set of images is made anew, more or less easy. Of real images, `data`, the sets are drawn
    from the same few hundred, and the rest of them tells the accuracy.
    """
    table = []
    for source in (None, *data):
        for head in filter(known, heads):
            for way, training, test, many in ways:
                found = []
                for seed in range(sets):
                    generator = np.random.default_rng([seed, 3])
                    images = source or made_images(
                        training + test + further,
                        2,
                        seed,
                        apart=generator.uniform(0.6, 1.6),
                        dimension=dimension,
                    )
                    rows = draw(images.labels, (training + test) // 2, generator)
                    rows = generator.permutation(rows)
                    inside, scored = rows[:training], rows[training:]
                    if test and many:
                        vectors, image = images.versions(scored, VERSIONS)
                        scored = scored[image]
                        vectors = np.concatenate([images.vectors[inside], vectors])
                    elif many:
                        vectors, image = images.versions(inside, VERSIONS)
                        inside = inside[image]
                    else:
                        vectors = images.vectors[rows]
                    labels = images.labels[np.concatenate([inside, scored])]
                    splits = ["train"] * len(inside) + ["test"] * len(scored)
                    made = fitted(Vectors(vectors, labels, splits), head)
                    others = np.setdiff1d(np.arange(len(images.labels)), rows)
                    right = made.predict(images.vectors[others]).labels == images.labels[others]
                    found.append((made.scores.interval, made.scores.accuracy, right.mean()))
                entry: Row = {"data": source.name if source else "made", "head": head}
                entry |= {"scored": way, "images": test or training, "sets": sets}
                entry["coverage"] = mean(low <= true <= high for (low, high), _, true in found)
                entry["all above"] = mean(low > true for (low, _), _, true in found)
                entry["all below"] = mean(high < true for (_, high), _, true in found)
                entry["width"] = mean(high - low for (low, high), _, _ in found)
                entry["accuracy said"] = mean(said for _, said, _ in found)
                entry["true"] = mean(true for _, _, true in found)
                table.append(entry)
    return table
