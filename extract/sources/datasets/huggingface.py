"""A data set of Hugging Face by its name -> references to its images."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..image import ImageReference
from ..listing import Listing
from . import rows
from .arrow import Meant, Run, images_of
from .columns import understood, with_splits
from .file import File
from .library import about_labels, cached, library, tables_of, told
from .parquet import of_parquet as of_parquet

_SAVED: Final = ("state.json", "dataset_dict.json")
"""What is in a folder that `save_to_disk` made."""

_DESCRIBE: Final = (".md", ".json", ".yaml")
"""Ends of names of files that say what the others of a folder are."""

_UNNAMED: Final = "data"
"""What the split of a data set is called in paths that was saved without any."""


def listed(name: str, columns: Mapping[str, str] | None = None) -> Listing:
    """The images of a data set, in its order.

    Parameters
    ----------
    name : str
        ``hf:NAME``, ``hf:OWNER/NAME``, ``hf:OWNER/NAME:CONFIG`` or ``hf:FOLDER``; then perhaps rows
        in brackets, as the library writes them, each perhaps with what they are to be:
        ``hf:beans[train=train[:80%],test=train[80%:]]``.
    columns : mapping, optional
        The columns that are meant, as ``{"path": "image", "label": "fine_label"}``.

    Raises
    ------
    MissingExtra
        If the library `datasets` is not installed.
    SourceError
        If there is no such data set, or it has no images; if rows are not there, or meant twice.
    """
    what = rows.asked(name)
    given = columns or {}
    if what.parts:
        rows.require_no_splits(what.source, given)
    datasets = library()
    called, splits, above = _loaded(datasets, what)
    sizes = {split: len(data) for split, data in splits.items()}
    wanted, notes = rows.slices(
        what,
        sizes,
        lambda said: [
            (one.splitname, one.from_, one.to)
            for one in datasets.ReadInstruction.from_spec(said).to_absolute(sizes)
        ],
    )
    alone = len(splits) == 1 and not what.parts
    parts: dict[str, tuple[list[tuple[Any, File]], Meant]] = {}
    for base in dict.fromkeys(one.base for one in wanted):
        data = splits[base]
        arrows = tables_of(what.source, data)
        meant, more = understood(what.source, datasets, data, given)
        meant, about = with_splits(what.source, data, meant, given, elsewhere=not alone)
        parts[base] = arrows, meant
        if meant.split or base == _UNNAMED:
            notes = []  # on what the data set calls its own
        notes += [note for note in [*more, *about] if note not in notes]
    group = next((meant.group for _, meant in parts.values() if meant.group), None)
    images: list[ImageReference] = []
    labels: dict[str, list[ImageReference]] = {}
    for one in wanted:
        arrows, meant = parts[one.base]
        run = Run(one.base, 0, one.start, one.stop, one.split, None)
        found = list(images_of(arrows, run, meant, called, above))
        images += found
        if meant.label:
            labels.setdefault(meant.label, []).extend(found)
    return Listing(called, images, notes=notes, label_notes=about_labels(labels, images, group))


def _loaded(datasets: Any, what: rows.Asked) -> tuple[str, dict[str, Any], list[str]]:
    """The name of a data set without the rows that were asked for, its splits, and its folders."""
    folder = os.path.abspath(os.path.expanduser(what.name))
    name, _, config = what.name.rpartition(":") if ":" in what.name else (what.name, "", "")
    own = [os.path.abspath(datasets.config.HF_DATASETS_CACHE)]
    with told(f"{what.source}: the library datasets cannot load it"):
        if any(os.path.isfile(os.path.join(folder, saved)) for saved in _SAVED):
            data, own = datasets.load_from_disk(folder), []
        elif os.path.isdir(folder):
            cache = cached(datasets, _files(datasets, folder, what.source))
            data = datasets.load_dataset(folder, cache_dir=cache)
        else:
            data = datasets.load_dataset(name, config or None)
            import huggingface_hub.constants

            own.append(os.path.abspath(huggingface_hub.constants.HF_HUB_CACHE))
    if not isinstance(data, datasets.DatasetDict):
        data = {str(data.split or _UNNAMED): data}
    is_folder = os.path.isdir(folder)
    above = [folder, *own] if is_folder else own
    return f"hf:{folder if is_folder else what.name}", dict(data), above


def _files(datasets: Any, folder: str, source: str) -> Iterator[File]:
    """The files of a folder that the library makes a data set of."""
    by_split = datasets.load_dataset_builder(folder).config.data_files or {}
    files = {os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(_DESCRIBE)}
    files |= {os.fspath(file) for several in by_split.values() for file in several}
    for file in sorted(files):
        if os.path.isfile(file):
            yield File.at(file, source)
