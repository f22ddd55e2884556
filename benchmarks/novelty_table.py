"""What is called unfamiliar, rightly and wrongly: the figures in the docstring of `Novelty`.

    python benchmarks/novelty_table.py KNOWN.h5 [KNOWN.h5 ...] --others OTHERS.h5 [...] [--draws 20]

Labelled feature files of one backbone and size. Of each of KNOWN, images are drawn to learn from,
as many of each class; the others of it are its like, and all images of the remaining files are
not. Probabilities are those of plain logistic regression on standardised features.

false alarms  of further images of the classes that were learned
rare class    of further images of a class of which 20 images were learned, and of the other classes
              more than 100 each; `false alarms` are then those of the others
left out      found, of classes that were left out of the learning: a third of them
NAME          found, of the images of another file, by label if it has no more than five
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from headstart.classify.folds import stratified_folds
from headstart.classify.novelty import Novelty
from headstart.features import FeatureStore
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FEW_KINDS = 5
RARE = 20
MOST_ASKED = 1000
"""Images of each kind."""


class Known(Protocol):
    """Vectors of different images, and those of copies of them."""

    name: str
    vectors: np.ndarray
    """(N, D) float32."""
    labels: np.ndarray
    """(N,) str."""
    copies: dict[str, np.ndarray]
    """Kind of copy -> (N, D), row by row."""


Judge = Callable[[np.ndarray], np.ndarray]
"""(N, D) vectors -> (N,) whether they are unfamiliar."""


def judge(vectors: np.ndarray, labels: np.ndarray, image: np.ndarray, seed: int) -> Judge:
    """Learn from (n, D) vectors, (n,) labels and (n,) numbers, equal for copies of one image."""
    codes = np.unique(labels, return_inverse=True)[1]
    folds = stratified_folds(codes, image, 5, seed).held_out
    counts = np.bincount(codes)
    novelty = Novelty.learned(vectors, folds, codes, len(counts), seed, image)
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, tol=1e-3))
    head.fit(vectors, codes)
    return lambda asked: novelty.scores(asked, head.predict_proba(asked), counts) > 1


def rows(
    known: Sequence[Known],
    others: Sequence[Known] = (),
    *,
    sizes: Sequence[int] = (50, 100, 200, 400, 2000),
    versions: Sequence[str] = (),
    draws: int = 20,
    judge: Callable[..., Judge] = judge,
) -> list[dict[str, Any]]:
    """A row for each set, number of images that were learned from, and way of drawing them.

    With `versions`, kinds of copies, the sets that have them are learned once more, with those
    copies of each image. Shares are (mean, standard error over the draws).
    """
    table = []
    for source in known:
        names, counts = np.unique(source.labels, return_counts=True)
        kinds = _kinds([one for one in (*known, *others) if one is not source])
        for number in sizes:
            each = number // len(names)
            if not 3 <= each <= counts.min() - 20:
                continue
            plain: dict[str, Any] = {"learned from": source.name, "images": each * len(names)}
            every = [(plain, dict.fromkeys(names, each), ())]
            if versions and source.copies:
                entry = {**plain, "versions": 1 + len(versions)}
                every.append((entry, dict.fromkeys(names, each), tuple(versions)))
            if len(names) > 2:
                every.append((plain | {"classes": "two thirds"}, {}, ()))
            for entry, wanted, copied in every:
                measured = [
                    _draw(
                        source, wanted or _two_thirds(names, each, seed), copied, kinds, seed, judge
                    )
                    for seed in range(draws)
                ]
                table.append(entry | _summary(measured))
        many = int(counts.min()) - 50
        by_class = names if len(names) <= FEW_KINDS else ["each in turn"]
        for rare in by_class if many > 5 * RARE else []:
            entry = {"learned from": source.name, "images": f"{many * (len(names) - 1)} + {RARE}"}
            measured = []
            for seed in range(draws):
                one = rare if rare in names else names[seed % len(names)]
                wanted = dict.fromkeys(names, many) | {one: RARE}
                measured.append(_draw(source, wanted, (), {}, seed, judge, one))
            table.append(entry | {"rare": str(rare)} | _summary(measured))
    return table


def _two_thirds(names: np.ndarray, each: int, seed: int) -> dict[str, int]:
    chosen = np.random.default_rng([seed, 1]).permutation(names)[: -(-2 * len(names) // 3)]
    return dict.fromkeys(chosen, each)


def _kinds(others: Sequence[Known]) -> dict[str, np.ndarray]:
    kinds: dict[str, np.ndarray] = {}
    for one in others:
        names = np.unique(one.labels)
        if len(names) > FEW_KINDS:
            kinds[one.name] = one.vectors
        else:
            kinds |= {name: one.vectors[one.labels == name] for name in names}
    return kinds


def _draw(
    source: Known,
    wanted: dict[str, int],
    versions: Sequence[str],
    kinds: dict[str, np.ndarray],
    seed: int,
    judge: Callable[..., Judge],
    rare: str | None = None,
) -> dict[str, float]:
    """Learn from that many images of each class, and ask about all kinds."""
    generator = np.random.default_rng([seed, 0])
    shuffled = generator.permutation(len(source.labels))
    learned = np.concatenate(
        [shuffled[source.labels[shuffled] == name][:number] for name, number in wanted.items()]
    )
    parts = [source.vectors[learned], *(source.copies[kind][learned] for kind in versions)]
    image = np.tile(np.arange(len(learned)), len(parts))
    unfamiliar = judge(np.concatenate(parts), source.labels[learned][image], image, seed)
    rest = np.setdiff1d(shuffled, learned)
    like = np.isin(source.labels[rest], list(wanted))
    asked = {"false alarms": source.vectors[rest[like]], "left out": source.vectors[rest[~like]]}
    if rare:
        of_rare = source.labels[rest] == rare
        asked = {"false alarms": source.vectors[rest[~of_rare]]}
        asked["rare class"] = source.vectors[rest[of_rare]]
    found = {}
    for name, vectors in (asked | kinds).items():
        if len(vectors) > MOST_ASKED:
            vectors = vectors[generator.choice(len(vectors), MOST_ASKED, replace=False)]
        if len(vectors):
            found[name] = float(unfamiliar(vectors).mean())
    return found


def _summary(measured: Sequence[dict[str, float]]) -> dict[str, tuple[float, float]]:
    summary = {}
    for name in measured[0]:
        shares = np.array([one[name] for one in measured])
        error = shares.std(ddof=1) / np.sqrt(len(shares)) if len(shares) > 1 else np.nan
        summary[name] = (float(shares.mean()), float(error))
    return summary


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Of a feature file."""

    name: str
    vectors: np.ndarray
    labels: np.ndarray
    copies: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Vectors:
        """All rows; all of them need labels."""
        store = FeatureStore(path)
        return cls(path.stem, store.features, np.array(store.label_names)[store.labels])


def markdown(table: Sequence[dict[str, Any]]) -> str:
    """Shares in percent with their standard errors."""
    columns = list(dict.fromkeys(column for entry in table for column in entry))
    lines = [columns, ["---"] * len(columns)]
    lines += [[_shown(entry.get(column, "")) for column in columns] for entry in table]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    return f"{100 * value[0]:.1f} ± {100 * value[1]:.1f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("known", type=Path, nargs="+")
    parser.add_argument("--others", type=Path, nargs="*", default=[])
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    sets = [[Vectors.read(path) for path in paths] for paths in (options.known, options.others)]
    print(markdown(rows(*sets, draws=options.draws)))
