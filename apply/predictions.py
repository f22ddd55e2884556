"""What a head says of the images of a source: columns for a table, and the table as a file."""

import collections
import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..features.durable.table import write_csv, written
from ..features.errors import HeadstartError

_DIGITS: Final = 6
"""Decimal places of a confidence in a table."""


@dataclasses.dataclass(frozen=True, repr=False)
class Predictions:
    """What a head says of N images, in the order of their source.

    Attributes
    ----------
    label_names : list of K str
        The classes of the head, sorted.
    paths : list of N str
        As the source names the images.
    ranked : list of N lists of (str, float)
        The most probable classes with their probabilities, as many as were asked for; empty where
        the image was skipped.
    unfamiliar : list of N bool or None
        Whether an image is unlike the training images: check its label.
    skipped : list of N str
        Why an image was not embedded; empty where it was.
    copies : list of N bool or None
        Whether an image is a training image or a near-copy of one: that its label is right says
        nothing of the head. It is no column of the table.
    noun : str
        What was predicted: ``"image"`` or ``"example"``.
    features : Path, str or None
        The feature file in which the embeddings were kept, if they were.
    """

    label_names: list[str]
    paths: list[str]
    ranked: list[list[tuple[str, float]]]
    unfamiliar: list[bool | None]
    skipped: list[str]
    features: str | Path | None = None
    copies: list[bool | None] = dataclasses.field(default_factory=list)
    noun: str = "image"

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}: {count:,}" for name, count in self.counts.items() if count)
        unfamiliar, skipped = self.unfamiliar.count(True), len(self) - self.counts.total()
        return (
            f"Predictions({len(self):,} {self.noun}s; {counts or 'none'}; "
            f"{unfamiliar:,} unfamiliar, {skipped:,} skipped)"
        )

    def _repr_html_(self) -> str:
        from ..classify.heads.prediction import counted

        skipped = len(self) - self.counts.total()
        return counted(self.counts, {"unfamiliar": self.unfamiliar.count(True), "skipped": skipped})

    @property
    def labels(self) -> list[str | None]:
        """The N most probable classes; None where the image was skipped."""
        return [best[0][0] if best else None for best in self.ranked]

    @property
    def confidences(self) -> NDArray[np.float64]:
        """(N,), the probabilities of `labels`; NaN where the image was skipped."""
        return np.array([best[0][1] if best else np.nan for best in self.ranked])

    @property
    def alternatives(self) -> list[list[tuple[str, float]]]:
        """The classes that come next, with their probabilities; as many as were asked for."""
        return [best[1:] for best in self.ranked]

    @property
    def counts(self) -> collections.Counter[str]:
        """How often each of `label_names` was predicted."""
        counts = collections.Counter(dict.fromkeys(self.label_names, 0))
        counts.update(label for label in self.labels if label is not None)
        return counts

    @property
    def columns(self) -> dict[str, list[Any]]:
        """Columns of N values by name, as ``pandas.DataFrame`` takes them.

        They are path, label, confidence, unfamiliar, skipped, and label_2, confidence_2 ... if
        alternatives were asked for. Confidences are rounded to six decimal places.
        """
        columns: dict[str, list[Any]] = {"path": self.paths, "label": [], "confidence": []}
        columns |= {"unfamiliar": self.unfamiliar, "skipped": self.skipped}
        for place in range(max(1, *map(len, self.ranked))):
            end = f"_{place + 1}" if place else ""
            best = [row[place] if row else (None, np.nan) for row in self.ranked]
            columns["label" + end] = [label for label, _ in best]
            columns["confidence" + end] = [
                None if label is None else round(confidence, _DIGITS) for label, confidence in best
            ]
        return columns

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write `columns` as a table, which appears whole or, with a HeadstartError, not at all.

        It is UTF-8; only names that are not text keep their bytes. Any reader of CSV finds one row
        an image, whatever is in the names; a spreadsheet takes one that begins with ``=`` for a
        formula.
        """
        columns = self.columns
        columns["unfamiliar"] = [  # as JSON has it
            None if one is None else str(one).lower() for one in self.unfamiliar
        ]
        write_csv(path, columns)

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON object per line, with the names of `columns`, in the same way."""
        columns = self.columns
        columns["label"] = [label or "" for label in self.labels]
        with written(path) as file:
            for values in zip(*columns.values(), strict=True):
                line = json.dumps(dict(zip(columns, values, strict=True)))
                file.write(f"{line}\n".encode("ascii"))


WRITERS: Final = {".csv": Predictions.to_csv, ".jsonl": Predictions.to_jsonl}


def writer_of(path: Path) -> Callable[[Predictions, Path], None]:
    """What writes predictions under this name, by its ending in either case."""
    if path.suffix.lower() not in WRITERS:
        raise HeadstartError(f"{path}: predictions are written as .csv or .jsonl; name it so")
    return WRITERS[path.suffix.lower()]
