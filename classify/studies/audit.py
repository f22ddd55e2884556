"""A labelled feature file -> the labels in it that may be wrong, most doubtful first."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...features import durable
from ...features.durable.table import write_csv
from ...features.errors import HeadstartError
from ...features.store import FeatureStore
from ..examples import Examples, about_contradictory
from ..examples.stored import require_in_memory
from ..experiment import Experiment
from ..scores.groups import Grouping
from ..training import out_of_fold


@dataclasses.dataclass(frozen=True)
class Suspect:
    """An image whose label may be wrong.

    Attributes
    ----------
    path : str
        As the source names it.
    given : str
        Its label.
    suggested : str
        The label that its looks speak for; empty if they speak for the given one.
    probability : float or None
        Of the given label, from classifiers that have not seen the image; None if it was not
        predicted, because its bytes have another label too or its class is too small.
    near_duplicate : str
        Another image that is the same but for small changes, and has another label; empty if there
        is none.
    near_duplicate_label : str
        The label of that one.
    """

    path: str
    given: str
    suggested: str
    probability: float | None
    near_duplicate: str = ""
    near_duplicate_label: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class Audit:
    """What `audit` found.

    Attributes
    ----------
    suspects : tuple of Suspect
        The most doubtful first: as many as there are.
    images : int
        Labelled images that were looked at.
    notes : tuple of str
        What was left out and why, in sentences.
    noun : str
        What was looked at: ``"image"`` or ``"example"``.
    """

    suspects: tuple[Suspect, ...]
    images: int
    notes: tuple[str, ...]
    noun: str = "image"

    def __repr__(self) -> str:
        return f"Audit({len(self.suspects):,} suspects among {self.images:,} labelled {self.noun}s)"

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The fields of the suspects as columns, as ``pandas.DataFrame`` takes them."""
        names = [field.name for field in dataclasses.fields(Suspect)]
        return {name: [getattr(one, name) for one in self.suspects] for name in names}

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write `columns` as a table; probabilities have six decimal places.

        Raises
        ------
        HeadstartError
            If the name does not end in ``.csv``, or the file cannot be written; one that was there
            before is untouched.
        """
        check_table(Path(path))
        columns = self.columns
        columns["probability"] = [
            "" if one is None else f"{one:.6f}" for one in columns["probability"]
        ]
        write_csv(path, columns)


def check_table(path: Path, file: str | os.PathLike[str] | None = None) -> None:
    """Refuse a name that suspects cannot be written under, before the work is done.

    Parameters
    ----------
    path : Path
        The table.
    file : str or path-like, optional
        The feature file that is audited: the table must not take its place.

    Raises
    ------
    HeadstartError
        If it does not end in ``.csv``, in either case, cannot be written, or is that file.
    """
    if path.suffix.lower() != ".csv":
        raise HeadstartError(f"{path}: suspects are written as NAME.csv; name it so")
    durable.require_target(path)
    if file is not None and path.exists() and os.path.exists(file) and path.samefile(file):
        raise HeadstartError(f"{path}: is the feature file that is audited; choose another output")


def audit(
    store: FeatureStore,
    head: Any = "logistic",
    *,
    folds: int = 5,
    seed: int = 0,
    min_images: int = 1,
) -> Audit:
    """Find labels that may be wrong, in all splits of a feature file.

    Every image is predicted by a head that was trained without it and its near-copies. The less
    probable its given label is, the more it is suspected; how many are suspects is counted by
    confident learning (Northcutt et al. 2021, arXiv:1911.00068): images for which another class is
    as probable as it is, in the mean, for the images that have that label. Images of which there is
    a copy or near-copy with another label are suspects too.

    Parameters
    ----------
    store : FeatureStore
        Labelled features.
    head : str or classifier, default="logistic"
        As for `headstart.classify.train`.
    folds : int, default=5
        As for `headstart.classify.train`.
    seed : int, default=0
        As for `headstart.classify.train`.
    min_images : int, default=1
        As for `headstart.classify.train`.

    Raises
    ------
    TrainingError
        If there are fewer than two classes of which images can be held out.
    WrongUsage
        If an option has an impossible value.
    """
    require_in_memory(store, "an audit of the labels")
    experiment = Experiment.of(store, folds, seed, None, min_images, tested=False)
    return audited(experiment, out_of_fold(head, experiment))


def audited(experiment: Experiment, probabilities: NDArray[np.float64]) -> Audit:
    """The suspects among the rows of an experiment, by (N, K) out-of-fold probabilities of them."""
    examples, codes = experiment.examples, experiment.codes
    # Near-copies alone: what else is in one group may well have several labels.
    copies = Grouping(examples.features, examples.identities, labels=codes)
    suggested, (partners, _) = _suggested(probabilities, codes), copies.partners(codes)
    suspects = []
    for row in np.flatnonzero((suggested >= 0) | (partners >= 0)).tolist():
        own, other, partner = probabilities[row, codes[row]], suggested[row], partners[row]
        suspects.append(
            Suspect(
                os.fsdecode(examples.paths[row]),
                examples.names[examples.codes[row]],
                "" if other < 0 else experiment.names[other],
                None if np.isnan(own) else float(own),
                "" if partner < 0 else os.fsdecode(examples.paths[partner]),
                "" if partner < 0 else examples.names[examples.codes[partner]],
            )
        )
    suspects += _contradictions(experiment.contradictory)
    suspects.sort(key=lambda one: (-1.0 if one.probability is None else one.probability, one.path))
    number = len(examples) + len(experiment.contradictory)
    # Those are suspects themselves.
    said = about_contradictory(experiment.contradictory)
    notes = [note for note in experiment.notes if note not in said]
    made = experiment.store.provenance
    return Audit(tuple(suspects), number, tuple(map(made.worded, notes)), made.noun)


def _suggested(probabilities: NDArray[np.float64], codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """(N,): the class that a suspect seems to belong to; -1 for all other rows.

    Confident learning counts rows for which another class is as probable as it is, in the mean, for
    rows that have its label. So many become suspects: of the rows for which another class is more
    probable than the given one, those whose given one is the least probable. On 50 characters in 20
    typefaces with 5% of the labels wrong, 69% of these were wrong, and 62% of the rows counted.
    """
    rows = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    known, labels = probabilities[rows], codes[rows]
    usual = np.full(known.shape[1], np.inf)
    for code in np.unique(labels).tolist():
        usual[code] = known[labels == code, code].mean()
    confident = np.where(known >= usual, known, -1.0)
    best = confident.argmax(axis=1)
    everything = np.arange(len(rows))
    number = np.count_nonzero((confident[everything, best] >= 0) & (best != labels))
    likely = known.argmax(axis=1)
    doubtful = np.flatnonzero(likely != labels)
    order = np.argsort(known[everything, labels][doubtful], kind="stable")
    chosen = doubtful[order[:number]]
    suggested = np.full(len(codes), -1)
    suggested[rows[chosen]] = likely[chosen]
    return suggested


def _partners(images: NDArray[np.integer], labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """(N,): a row of the same image with another label; -1 if there is none."""
    if not len(images):
        return np.empty(0, np.intp)
    order = np.lexsort((labels, images))
    copies, codes = images[order], labels[order]
    starts = np.flatnonzero(np.r_[True, copies[1:] != copies[:-1]])
    number = np.cumsum(np.r_[False, copies[1:] != copies[:-1]])
    ends = np.r_[starts[1:], len(copies)] - 1
    first, last = starts[number], ends[number]
    other = np.where(codes[first] != codes, first, np.where(codes[last] != codes, last, -1))
    partners = np.full(len(copies), -1)
    partners[order] = np.where(other >= 0, order[other], -1)
    return partners


def _contradictions(examples: Examples) -> list[Suspect]:
    partners = _partners(examples.identities, examples.codes)
    return [
        Suspect(
            os.fsdecode(examples.paths[row]),
            examples.names[examples.codes[row]],
            "",
            None,
            os.fsdecode(examples.paths[partner]),
            examples.names[examples.codes[partner]],
        )
        for row, partner in enumerate(partners.tolist())
        if partner >= 0
    ]
