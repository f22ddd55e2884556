"""Tables of `honesty.py`: images that resemble others, or none, and labels that are wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from headstart.classify import audit
from headstart.classify.scores.groups import groups
from honesty_data import OTHERS, VERSIONS, Images, Vectors, made_images
from honesty_scores import Row, draw, fitted, mean
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def near_copies(data: Sequence[Images]) -> list[Row]:
    """Share of copies that are grouped with their image, by kind; of different images that are.

    Rows of different images are "grouped" if they are with any other; `largest group` is a share
    of all. Both once more where classes are known, as in training.
    """
    table: list[Row] = []
    for images in data:
        number = len(images.vectors)
        for kind, copies in images.copies.items():
            entry: Row = {"data": images.name, "images": number, "and": kind}
            group = _groups(np.concatenate([images.vectors, copies]))
            entry["found"] = mean(group[:number] == group[number:])
            table.append(entry)
        entry = {"data": images.name, "images": number, "and": "no copies", "found": None}
        codes = np.unique(images.labels, return_inverse=True)[1]
        for way, labels in (("", None), (", classes known", codes)):
            group = _groups(images.vectors, labels)
            sizes = np.bincount(group)
            entry[f"different, grouped{way}"] = mean(sizes[group] > 1)
            entry[f"largest group{way}"] = sizes.max() / number
        table.append(entry)
    return table


def _groups(vectors: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    return groups(vectors, np.arange(len(vectors), dtype=np.uint64), labels=labels)


def novelty(
    pictures: dict[str, Images] | None = None,
    *,
    made: bool = True,
    sizes: Sequence[int] = (50, 100, 200, 2000),
    draws: int = 10,
    further: int = 2000,
    head: str = "logistic",
) -> list[Row]:
    """Share called unfamiliar: of further images like those trained on, and of other kinds.

    Trained on that many photographs, digits or made images, in equal shares of all classes, and
    again where each has five near-copies that are trained on too.
    """
    table = []
    known = [pictures["photographs"], pictures["digits"]] if pictures else []
    for source in (*([None] if made else []), *known):
        for number in sizes:
            if source and number > 0.9 * len(source.labels):
                continue
            for versions in (False, True):
                if source and versions and not source.copies:
                    continue
                found: dict[str, list[float]] = {}
                for seed in range(draws):
                    generator = np.random.default_rng([seed, 6])
                    images = source or made_images(number + further, 2, seed)
                    each = number // len(np.unique(images.labels))
                    rows = draw(images.labels, each, generator)
                    vectors, image = images.versions(rows, VERSIONS if versions else ())
                    trained = fitted(Vectors(vectors, images.labels[rows][image]), head)
                    others = np.setdiff1d(np.arange(len(images.labels)), rows)
                    kinds = {"false alarms": images.vectors[others]}
                    for name in ("photographs", "digits", *OTHERS) if source and pictures else ():
                        if pictures[name] is not source:
                            kinds[name] = pictures[name].vectors
                    for name, asked in kinds.items():
                        unfamiliar = trained.predict(asked).unfamiliar
                        found.setdefault(name, []).append(unfamiliar.mean())
                entry: Row = {"trained on": source.name if source else "made", "images": number}
                entry |= {"versions of each": 6 if versions else 1}
                table.append(entry | {name: mean(shares) for name, shares in found.items()})
    return table


def rare_class(
    pictures: dict[str, Images] | None = None, *, draws: int = 20, head: str = "logistic"
) -> list[Row]:
    """False alarms of 20 images of a class among many of another, by class."""
    table = []
    for source in (None, *([pictures["photographs"]] if pictures else [])):
        many = 1000 if source is None else 250
        found: list[tuple[float, float]] = []
        for seed in range(draws):
            generator = np.random.default_rng([seed, 7])
            images = source or made_images(2 * many + 1000, 2, seed)
            common, rare = (
                np.flatnonzero(images.labels == one) for one in np.unique(images.labels)
            )
            common, rare = generator.permutation(common), generator.permutation(rare)
            rows = np.concatenate([common[:many], rare[:20]])
            made = fitted(Vectors(images.vectors[rows], images.labels[rows]), head)
            shares = [
                made.predict(images.vectors[others]).unfamiliar.mean()
                for others in (common[many:], rare[20:])
            ]
            found.append((shares[0], shares[1]))
        entry: Row = {"trained on": source.name if source else "made", "images": f"{many} + 20"}
        entry["common class"] = mean(one for one, _ in found)
        entry["rare class"] = mean(one for _, one in found)
        table.append(entry)
    return table


def suspects(
    data: Sequence[Images], *, flipped: float = 0.05, rows: int = 1000, draws: int = 5
) -> list[Row]:
    """Labels of 5 % of the images are flipped: who finds how many of them.

    `first` is the precision of the first n that are listed, where n are flipped; `recall` that of
    all that are listed. cleanlab is given the probabilities of plain scikit-learn.
    """
    table = []
    for images in data:
        found: dict[str, list[tuple[float, float, int]]] = {}
        for seed in range(draws):
            generator = np.random.default_rng([seed, 8])
            names = np.unique(images.labels)
            chosen = generator.permutation(
                draw(images.labels, max(rows // len(names), 1), generator)
            )
            vectors, labels = images.vectors[chosen], images.labels[chosen].copy()
            wrong = generator.permutation(len(labels))[: round(flipped * len(labels))]
            shift = generator.integers(1, len(names), len(wrong))
            labels[wrong] = names[(np.searchsorted(names, labels[wrong]) + shift) % len(names)]
            for way, listed in _listings(vectors, labels):
                hits = np.isin(listed, wrong)
                first = hits[: len(wrong)].mean() if len(listed) else 0.0
                found.setdefault(way, []).append((first, hits.sum() / len(wrong), len(listed)))
        for way, ones in found.items():
            entry: Row = {"data": images.name, "images": len(labels), "flipped": len(wrong)}
            entry |= {"by": way, "first": mean(first for first, _, _ in ones)}
            entry |= {"recall": mean(recall for _, recall, _ in ones)}
            table.append(entry | {"listed": round(float(np.mean([number for *_, number in ones])))})
    return table


def _listings(vectors: np.ndarray, labels: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Rows whose labels are doubted, most doubtful first, by everyone who is here."""
    store = Vectors(vectors, labels)
    suspects = [one.path for one in audit(store).suspects]
    mistakes = [one["path"] for one in fitted(store, "logistic").scores.mistakes]
    found = [
        (way, np.array([int(path.partition(".")[0]) for path in paths], int))
        for way, paths in (("audit", suspects), ("most confident mistakes", mistakes))
    ]
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return found
    codes = np.unique(labels, return_inverse=True)[1]
    by_hand = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    given = cross_val_predict(by_hand, vectors, codes, method="predict_proba")
    issues = find_label_issues(codes, given, return_indices_ranked_by="self_confidence")
    return [*found, ("cleanlab", np.asarray(issues))]
