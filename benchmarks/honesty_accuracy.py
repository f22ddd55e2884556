"""Tables of `honesty.py`: heads that were given few images of each class, and many classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from headstart.classify import Head
from honesty_data import Images, Vectors, made_images
from honesty_scores import HEADS, Row, draw, fitted, known, mean
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

PLAIN = {
    "StandardScaler, LogisticRegression()": lambda _: LogisticRegression(max_iter=1000),
    "StandardScaler, LogisticRegressionCV()": lambda each: LogisticRegressionCV(
        Cs=np.logspace(-5, 1, 7),
        cv=min(5, each),
        max_iter=1000,
        scoring="neg_log_loss",
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    ),
}
"""What one would write by hand."""


def few_shots(
    data: Sequence[Images],
    *,
    heads: Sequence[str] = HEADS[:-1],
    shots: Sequence[int] = (3, 5, 8, 20, 50, 200),
    draws: int = 20,
    plain: bool = True,
) -> list[Row]:
    """Accuracy and log loss on all other images, from a few of each class.

    Of many classes a quarter of the draws has to do, and no more than 3,000 images are trained on;
    nor does plain scikit-learn search for C, which takes it minutes.
    """
    table = []
    for images in data:
        counts = np.unique(images.labels, return_counts=True)[1]
        for each in shots:
            if each > 0.8 * counts.min() or each * len(counts) > 3000:
                continue
            splits = []
            for seed in range(draws if len(counts) <= 10 else max(draws // 4, 2)):
                inside = draw(images.labels, each, np.random.default_rng([seed, 4]))
                others = np.setdiff1d(np.arange(len(images.labels)), inside)
                if len(others) > 3000:
                    others = np.random.default_rng(seed).choice(others, 3000, replace=False)
                splits.append((inside, others))
            by_hand = list(PLAIN)[: 2 if len(counts) <= 10 else 1] if plain else []
            for head in (*filter(known, heads), *by_hand):
                found = [_shot(images, head, *split, each) for split in splits]
                entry: Row = {"data": images.name, "images a class": each, "head": head}
                entry["accuracy"] = mean(accuracy for accuracy, _ in found)
                entry["log loss"] = mean(loss for _, loss in found)
                table.append(entry)
    return table


def _shot(
    images: Images, head: str, inside: np.ndarray, others: np.ndarray, each: int
) -> tuple[float, float]:
    if head in PLAIN:
        by_hand = make_pipeline(StandardScaler(), PLAIN[head](each))
        by_hand.fit(images.vectors[inside], images.labels[inside])
        given = by_hand.predict_proba(images.vectors[others].astype(float))
        truth = images.labels[others]
        right = by_hand.classes_[given.argmax(axis=1)] == truth
        return float(right.mean()), float(log_loss(truth, given, labels=by_hand.classes_))
    rows = np.concatenate([inside, others])
    splits = ["train"] * len(inside) + ["test"] * len(others)
    scores = fitted(Vectors(images.vectors[rows], images.labels[rows], splits), head).scores
    return scores.accuracy, scores.log_loss


def calibration(
    data: Sequence[Images] = (),
    *,
    heads: Sequence[str] = HEADS[:-2],
    classes: Sequence[int] = (2, 10, 50, 100),
    each: int = 8,
    further: int = 2000,
    draws: int = 6,
    dimension: int = 512,
) -> list[Row]:
    """Labels of heads beside those of their own decision values, and of SVC(), by many classes.

    Made data, and classes drawn from `data` where it has as many.
    """
    table = []
    for source in (None, *data):
        for number in classes:
            if source and len(np.unique(source.labels)) < number:
                continue
            found: dict[str, list[Row]] = {}
            for seed in range(draws):
                generator = np.random.default_rng([seed, 5])
                images = source or made_images(
                    number * each + further, number, seed, apart=3.0, dimension=dimension
                )
                names = generator.permutation(np.unique(images.labels))[:number]
                rows = np.flatnonzero(np.isin(images.labels, names))
                inside = rows[draw(images.labels[rows], each, generator)]
                others = generator.permutation(np.setdiff1d(rows, inside))[:further]
                sides = [(images.vectors[one], images.labels[one]) for one in (inside, others)]
                svc = make_pipeline(StandardScaler(), SVC()).fit(*sides[0]).score(*sides[1])
                for head in filter(known, heads):
                    one = _by_decision(*sides, head)
                    found.setdefault(head, []).append(one | {"SVC()": svc})
            for head, ones in found.items():
                entry: Row = {"data": source.name if source else "made", "classes": number}
                entry |= {"head": head}
                entry |= {key: mean(one[key] for one in ones) for key in ones[0]}
                table.append(entry)
    return table


def _by_decision(
    inside: tuple[np.ndarray, np.ndarray], others: tuple[np.ndarray, np.ndarray], head: str
) -> Row:
    splits = ["train"] * len(inside[1]) + ["test"] * len(others[1])
    vectors, labels = (np.concatenate(both) for both in zip(inside, others, strict=True))
    made = fitted(Vectors(vectors, labels, splits), head)
    predicted, decided = made.predict(others[0]).labels, decision(made, others[0])
    return {
        "accuracy": made.scores.accuracy,
        "of its decision": float(np.mean(decided == others[1])),
        "label = argmax": float(np.mean(decided == predicted)),
        "log loss": made.scores.log_loss,
    }


def decision(head: Head, vectors: np.ndarray) -> np.ndarray:
    """(N,) the classes that the classifier speaks for, before anything calibrates it."""
    before, classifier = head.pipeline[:-1], head.pipeline[-1]
    calibrated = getattr(classifier, "calibrated_classifiers_", None)
    if calibrated:
        classifier = calibrated[0].estimator
    values = np.asarray(classifier.decision_function(before.transform(vectors)))
    chosen = (values > 0).astype(int) if values.ndim == 1 else values.argmax(axis=1)
    return np.array(head.label_names, object)[chosen]
