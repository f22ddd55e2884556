"""The names of columns -> which has the images, which their labels and which their splits."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from ....features.errors import SourceError
from .. import tree
from .table import Table

USUAL: Final[Mapping[str, Sequence[str]]] = {
    "path": [
        "path",
        "filepath",
        "imagepath",
        "imgpath",
        "relativepath",
        "filename",
        "imagefilename",
        "file",
        "imagefile",
        "imagename",
        "imgname",
        "fname",
        "image",
        "img",
        "imageid",
        "imgid",
        "photo",
        "picture",
        "name",
        "id",
    ],
    "label": [
        "label",
        "class",
        "category",
        "target",
        "classname",
        "labelname",
        "categoryname",
        "breed",
        "species",
        "y",
        "genus",
        "family",
        "variety",
        "type",
        "disease",
        "diagnosis",
        "dx",
        "genre",
        "style",
        "emotion",
        "brand",
        "tag",
        "labels",
        "classes",
    ],
    "split": ["split", "subset", "set", "partition", "datasplit", "phase", "isvalid"],
}
"""What columns are called, the likelier first, without capitals and whatever is no letter."""

_CERTAIN: Final = 9
"""How many of the names of labels mean nothing else in a record of many fields."""


class Roles(NamedTuple):
    """Which column is what, by its place."""

    path: int
    label: int | None
    split: int | None


def understood(rows: Table, columns: Mapping[str, str]) -> tuple[Roles, Table, list[str]]:
    """Which columns are what; and the table itself, whose first line may be a row."""
    found = {role: _column(rows, role, columns.get(role)) for role in USUAL}
    if found["path"] is None:
        bare = _without_names(rows)
        if bare is None:
            raise SourceError(
                f"{rows.name}: a manifest needs the column 'path' (or file_name, image, id, ...; "
                f"and may have 'label' and 'split'); its columns are {_few(rows.columns)}: name "
                f"the one with the images by --path-column"
            )
        return bare
    path, split, label = found["path"], found["split"], found["label"]
    rest = [place for place, name in enumerate(rows.columns) if place not in (path, split) and name]
    notes = []
    if label == path:
        label = None
    if label is None and len(rest) == 1:
        (label,) = rest
        if plain(rows.columns[label]) not in USUAL["label"]:
            notes.append(f"the column {rows.columns[label]!r} is taken for the label")
    elif label is None and rest:
        named = _few([rows.columns[place] for place in rest])
        notes.append(f"no column is taken for the label; --label-column names one of {named}")
    elif label is not None and "label" not in columns:
        others = [
            rows.columns[place]
            for place in rest
            if place != label and plain(rows.columns[place]) in USUAL["label"][:7]
        ]
        if others:
            notes.append(
                f"the column {rows.columns[label]!r} is taken for the label, and not "
                f"{_few(others)}; --label-column names another"
            )
    return Roles(path, label, split), rows, notes


def _column(rows: Table, role: str, given: str | None) -> int | None:
    names = [plain(name) for name in rows.columns]
    if given is not None:
        exact = [place for place, name in enumerate(rows.columns) if name == given]
        exact = exact or [place for place, name in enumerate(names) if name == plain(given)]
        if not exact:
            raise SourceError(
                f"{rows.name}: --{role}-column {given!r}: there is no such column; there are "
                f"{_few(rows.columns)}"
            )
    else:
        usual = next((name for name in USUAL[role] if name in names), None)
        exact = [place for place, name in enumerate(names) if name == usual]
    if len(exact) > 1:
        raise SourceError(
            f"{rows.name}: two columns are called {rows.columns[exact[0]]!r}, and nothing says "
            f"which counts; rename or remove one"
        )
    return exact[0] if exact else None


def _without_names(rows: Table) -> tuple[Roles, Table, list[str]] | None:
    """A list whose first line is an image, and not the names of its columns."""
    cells = list(rows.columns)
    path = next((k for k, cell in enumerate(cells) if tree.is_image_name(cell)), None)
    if path is None or len(cells) > len(USUAL) or not rows.first:
        return None
    rest = [place for place in range(len(cells)) if place != path]
    split = next((k for k in rest if len(rest) > 1 and tree.split_of(cells[k])), None)
    label = next((place for place in rest if place != split), None)
    numbers = [f"column {place + 1}" for place in range(len(cells))]

    def every() -> Iterator[tuple[str, list[str]]]:
        yield rows.first, cells
        yield from rows.rows

    taken = "" if label is None else f", and {numbers[label]} for labels"
    note = f"no line with names of columns; {numbers[path]} is taken for paths{taken}"
    return Roles(path, label, split), Table(rows.name, numbers, every()), [note]


def plain(column: str) -> str:
    """A name of a column without capitals and whatever is no letter or number."""
    return re.sub(r"[\W_]+", "", column.casefold())


def _few(columns: Sequence[str]) -> str:
    """Names of columns, for a message of one line whatever the file is."""
    named = ", ".join(repr(column[:40]) for column in columns[:8]) or "none"
    return f"{named} and {len(columns) - 8} more" if len(columns) > 8 else named


def label_in(record: Mapping[str, object]) -> str:
    """The label in a record by the name of its field; empty if it has none for certain."""
    values = {plain(name): value for name, value in record.items()}
    for name in ("cls", *USUAL["label"][:_CERTAIN]):
        value = values.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    return ""
