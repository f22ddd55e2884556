"""Labels of a feature file -> a manifest that `headstart extract` reads, or the file itself."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...classify import train
from ...extract.embedding import Embedding
from ...extract.pipeline import run
from ...extract.sources import is_source, scan
from ...extract.sources.image import ImageReference
from ...extract.sources.listing import Listing
from ...features import durable
from ...features.durable.table import write_csv
from ...features.errors import HeadstartError, SourceError, count
from ...features.journal.writing import relabel
from ...features.layout import NO_GROUP, SPLIT_NAMES
from ...features.provenance import Given
from ...features.store import FeatureStore
from ..commands import extract_words
from ..pictures import found_again, is_same
from .journal import ENDING

_KEPT: Final = "; the labels are kept in the journal"


def require_table(out: Path, store: FeatureStore, source: str) -> Path:
    """Refuse a name that labels cannot be written under; the journal that lies beside it.

    A list that is there already is replaced only if labels of ours are in it.
    """
    if out.suffix.lower() != ".csv":
        raise HeadstartError(f"{out}: labels are written as NAME.csv; name it so")
    durable.require_target(out)
    journal = out.with_name(out.name[: -len(out.suffix)] + ENDING)
    if out.exists() and not journal.exists():
        what = "is the list of the images itself" if is_source(out, source) else "is there already"
        raise HeadstartError(
            f"{out}: {what}, and no page of labels wrote it ({journal.name} is not beside it); "
            f"choose another output by -o"
        )
    if journal.exists() and store.path.exists() and journal.samefile(store.path):
        raise HeadstartError(f"{out}: its journal would be the feature file; choose another output")
    return journal


def write_labels(
    out: Path,
    store: FeatureStore,
    rows: NDArray[np.intp],
    source: str,
    labels: Sequence[str],
) -> list[str]:
    """Write a manifest of all images with their labels, "" for none; notes in sentences.

    Paths are relative to the manifest where images lie in its folder or below, else absolute.

    Raises
    ------
    HeadstartError
        If the images are no files of their own, which a manifest cannot name; if most are gone; if
        it cannot be written.
    """
    if isinstance(store.provenance, Given):
        write_csv(out, _columns(store, rows, labels))
        return []
    found = _references(source)
    odd = next((one for one in found.values() if type(one) is not ImageReference), None)
    if odd is not None:
        raise HeadstartError(
            f"{out}: a list cannot name images in {source}, such as {os.fsdecode(odd.path)}; bring "
            f"the labels into the feature file instead, by the button of the page{_KEPT}"
        )
    folder = os.fsencode(os.path.dirname(os.path.abspath(out)))
    columns: dict[str, list[str]] = {"path": [], "label": [], "split": []}
    groups = columns.setdefault("group", []) if store.group_names else []
    missing, changed = [], []
    for row, label in zip(rows.tolist(), labels, strict=True):
        image = found_again(found.get, store, row)
        if image is None or not image.exists():
            missing.append(store.paths[row])
            continue
        if label and not is_same(image, store, row):
            changed.append(store.paths[row])
            label = ""
        columns["path"].append(_from(folder, os.path.abspath(image.location)))
        columns["label"].append(label)
        columns["split"].append(_split(store, row))
        if store.group_names:
            group = int(store.groups[row])
            groups.append("" if group == NO_GROUP else store.group_names[group])
    if len(missing) * 2 > len(rows):
        raise SourceError(
            f"{out}: not written: {len(missing):,} of {len(rows):,} images are no longer in "
            f"{source}, first {missing[0]}; say where they are now by --images{_KEPT}"
        )
    write_csv(out, columns)
    notes = [_are(missing, "no longer there", "left out")] if missing else []
    return [*notes, _without_label(changed)] if changed else notes


def _columns(
    store: FeatureStore, rows: NDArray[np.intp], labels: Sequence[str]
) -> dict[str, list[str]]:
    """The columns of a list of examples that are no images."""
    every = rows.tolist()
    columns = {"id": [store.paths[row] for row in every], "label": list(labels)}
    columns["split"] = [_split(store, row) for row in every]
    if store.group_names:
        names = [*store.group_names, ""]  # NO_GROUP is the last
        columns["group"] = [names[store.groups[row]] for row in every]
    if store.has_texts:
        columns["text"] = [store.texts[row] for row in every]
    return columns


def _are(paths: Sequence[str], which: str, what: str) -> str:
    are = "is" if len(paths) == 1 else "are"
    return f"{count(len(paths), 'image')} {which}, first {paths[0]}, {are} {what}"


def _without_label(paths: Sequence[str]) -> str:
    return _are(paths, "changed since", "without a label: what was labelled is another image")


def _references(source: str) -> dict[bytes, ImageReference]:
    return {image.path: image for image in scan(source, labels="none")}


def _from(folder: bytes, path: bytes) -> str:
    inside = path.startswith(os.path.join(folder, b""))
    return os.fsdecode(os.path.relpath(path, folder) if inside else path)


def _split(store: FeatureStore, row: int) -> str:
    split = SPLIT_NAMES[store.splits[row]]
    return "" if split == SPLIT_NAMES[0] else split


def extract_command(store: FeatureStore, out: Path) -> str:
    """The command that brings the labels of a manifest into the file that they are of, if any.

    Given vectors lie in no order that the list has.
    """
    if isinstance(store.provenance, Given):
        return ""
    return " ".join(["headstart", "extract", *extract_words(store, out)])


def bring(path: Path, source: str, labels: Mapping[bytes, str]) -> str:
    """Seal a feature file anew with labels by path, "" for none; a sentence about it.

    Images of the source that the file does not know stay out, so that nothing is embedded.
    """
    store = FeatureStore(path)
    if isinstance(store.provenance, Given):
        return _brought(relabel(store, {one: label or None for one, label in labels.items()}), 0)
    listing = scan(source)
    skipped = {file.path for file in store.skipped_files}
    found = {image.path: image for image in listing}
    rows: dict[bytes, int] = {}
    gone: list[bytes] = []
    for own in np.flatnonzero(store.views == 0).tolist():
        place = found_again(found.get, store, own)
        if place is None:
            gone.append(store.raw_paths[own])
        else:
            rows[place.path] = own
    images, changed = [], []
    for image in listing:
        row = rows.get(image.path)
        if row is None:
            if image.path in skipped:
                images.append(dataclasses.replace(image, label=labels.get(image.path) or None))
            continue
        label = labels.get(store.raw_paths[row]) or None
        split = _split(store, row) or SPLIT_NAMES[0]
        if label and not is_same(image, store, row):
            changed.append(store.paths[row])
            label = None
        images.append(dataclasses.replace(image, label=label, split=split))
    if not images:
        raise SourceError(
            f"{source}: none of the images of {path} is there; say where they are by --images"
        )
    if gone:
        raise SourceError(
            f"{path}: not changed: {len(gone):,} of its {store.images:,} images are no longer in "
            f"{source}, such as {os.fsdecode(min(gone))}, and would be lost; say where they are by "
            f"--images, or run `headstart extract` first{_KEPT}"
        )
    kept: Listing = dataclasses.replace(listing, images=images, notes=(), label_notes=())
    embedding = Embedding.of(store.origin)
    sealed = run(embedding, kept, path, seen=lambda _: None)
    said = _brought(sealed, sealed.summary.embedded)
    return "; ".join([said, _without_label(changed)] if changed else [said])


def _brought(sealed: FeatureStore, embedded: int) -> str:
    labelled = int(np.count_nonzero((sealed.labels >= 0) & (sealed.views == 0)))
    of = count(sealed.images, sealed.provenance.noun)
    anew = f"{count(embedded, 'changed image')} embedded" if embedded else "nothing was embedded"
    return f"{count(labelled, 'label')} of {of} are in {sealed.path.name} now; {anew}"


def train_head(path: Path, out: Path) -> str:
    """Train a head on a feature file and save it; its scores in a sentence."""
    head = train(FeatureStore(path))
    head.save(out)
    notes = "".join(f"; {note}" for note in head.scores.notes)
    return (
        f"{head.scores.summary}, {count(head.scores.rows, 'image')}, always guessing the "
        f"commonest class {head.scores.baseline:.1%}; saved as {out.name}{notes}"
    )
