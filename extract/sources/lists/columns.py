"""The names of columns -> which has the images, and which their labels, splits and groups."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ....features.errors import SourceError
from .. import tree
from . import table
from .table import Table

USUAL: Final[Mapping[str, Sequence[str]]] = {
    "path": (
        "path filepath imagepath imgpath relativepath filename imagefilename file imagefile "
        "imagename imgname fname image img imageid imgid photo picture id name url imageurl"
    ).split(),
    "label": (
        "label class category target classname labelname categoryname breed species classid "
        "labelid categoryid targetid genus family variety type disease diagnosis dx genre style "
        "emotion brand tag labels classes y"
    ).split(),
    "split": "split subset set partition datasplit phase isvalid".split(),
    "group": ["group"],
}
"""What columns are called, the likelier first, without capitals and whatever is no letter."""

_MAY_BE_GROUPS: Final = "patient patientid subjectid animalid individualid lesionid videoid".split()
"""Names of what several images are often of; whether they should be kept together is asked."""

_UNNAMED: Final = 3
"""Columns of a list that does not say what they are: images, labels and splits."""

LONGEST_GROUP: Final = 1000
"""Characters; every name of a group has room for the longest."""

_CERTAIN: Final = 9
"""How many of the names of labels mean nothing else in a record of many fields."""

_FLAGS: Final = {
    **dict.fromkeys(("true", "1", "yes", "1.0"), tree.VALIDATION),
    **dict.fromkeys(("false", "0", "no", "0.0", ""), tree.TRAIN),
}
"""Of fastai's column is_valid."""


class Roles(NamedTuple):
    """Which column is what, by its place."""

    path: int
    label: int | None
    split: int | None
    group: int | None = None


def understood(rows: Table, columns: Mapping[str, str]) -> tuple[Roles, Table, list[str]]:
    """Which columns are what; and the table itself, whose first line may be a row."""
    require_text(rows)
    bare = None if columns else _without_names(rows)
    if bare is not None:
        return bare
    path = column_of(rows, "path", columns.get("path"))
    if path is None and not rows.columns:
        raise SourceError(f"{rows.name}: the list is empty")
    if path is None:
        raise SourceError(
            f"{rows.name}: a list needs the column 'path' (or file_name, image, id, ...; and "
            f"may have 'label', 'split' and 'group'); its columns are {_few(rows.columns)}: name "
            f"the one with the images by --path-column (in Python columns={{'path': ...}})"
        )
    split, rows, notes = _split_column(rows, path, columns.get("split"))
    named = "label" in columns
    label = column_of(rows, "label", columns["label"], (path, split)) if named else None
    group = column_of(rows, "group", columns.get("group"), (path, split, label))
    label = label if named else column_of(rows, "label", None, (path, split, group))
    if label is None and "group" not in columns:
        group = None  # it may be the label
    taken = (path, split, group)
    rest = [place for place, name in enumerate(rows.columns) if place not in taken and name]
    others = _few(_others(rows, label, rest))
    if label is None and len(rest) == 1:
        (label,) = rest
        notes.append(f"the column {rows.columns[label]!r} is taken for the label")
    elif label is None and rest:
        notes.append(f"no column is taken for the label; --label-column names one of {others}")
    elif label is not None and not named and _doubtful(rows, label, rest):
        notes.append(
            f"the column {rows.columns[label]!r} is taken for the label, and not {others}; "
            f"--label-column names another"
        )
    may_be = (rows.columns[place] for place in rest if place != label)
    like = next((name for name in may_be if plain(name) in _MAY_BE_GROUPS), None)
    if like is not None and label is not None and group is None:
        notes.append(
            f"the column {like!r} may say which images belong together; --group-column {like!r} "
            f"has folds keep them together"
        )
    return Roles(path, label, split, group), rows, notes


def split_of(column: str, word: str) -> str | None:
    """The split that a cell of a column means; None if it means none."""
    if plain(column) == "isvalid":
        return _FLAGS.get(word.strip().casefold())
    return tree.split_of(word)


def group_of(value: Any) -> str | None:
    """The group that a cell says; None if it is empty.

    Raises
    ------
    ValueError
        If it is no name.
    """
    name = unicodedata.normalize("NFC", table.as_text(value).strip())
    if "\0" in name or len(name) > LONGEST_GROUP:
        raise ValueError(
            f"{name[:40]!r} is no group: it has a NUL in it, or more than {LONGEST_GROUP:,} "
            f"characters"
        )
    return name or None


def without_groups(names: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """Columns that may be the label: not that of groups, unless there is no other."""
    rest = [name for name in names if name != columns.get("group")]
    return [name for name in rest if plain(name) not in USUAL["group"]] or rest


def require_text(rows: Table) -> None:
    """Refuse a name of a column whose bytes are no UTF-8."""
    for name in rows.columns:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise SourceError(
                f"{rows.name}, {rows.first}: the name of a column, {name[:80]!a}, is not "
                f"UTF-8; save the list as UTF-8"
            ) from None


def _split_column(rows: Table, path: int, given: str | None) -> tuple[int | None, Table, list[str]]:
    split = column_of(rows, "split", given, but=(path,))
    if split is None or given is not None or plain(rows.columns[split]) == "split":
        return split, rows, []
    # Others than split itself mean many things: the set of a card, the phase of the moon.
    name, found = rows.columns[split], list(rows.rows)
    rows = Table(rows.name, rows.columns, found, rows.first)
    words = (cells[split] for _, cells in found if len(cells) > split)
    odd = next((word for word in words if split_of(name, word) is None), None)
    if odd is None:
        return split, rows, []
    note = f"the column {name!r} is not taken for splits, because of {odd[:40]!r} in it"
    return None, rows, [f"{note}; --split-column names one"]


def _others(rows: Table, label: int | None, rest: Sequence[int]) -> list[str]:
    """Columns that may be the label as well: those that are called so, or else all."""
    names = [rows.columns[place] for place in rest if place != label]
    return [name for name in names if plain(name) in USUAL["label"][:_CERTAIN]] or names


def _doubtful(rows: Table, label: int, rest: Sequence[int]) -> bool:
    certain = USUAL["label"][:_CERTAIN]
    others = {plain(name) for name in _others(rows, label, rest)}
    return bool(others) and (plain(rows.columns[label]) not in certain or others <= {*certain})


def column_of(
    rows: Table,
    role: str,
    given: str | None,
    but: Sequence[int | None] = (),
    usual: Mapping[str, Sequence[str]] = USUAL,
) -> int | None:
    """The place of the column that has a role: the one `given`, or one that is called so usually.

    It is none of those that are left out by `but`; None if there is none.

    Raises
    ------
    SourceError
        If there is none of the name that is given, or two.
    """
    names = [plain(name) for name in rows.columns]
    if given is not None:
        exact = [place for place, name in enumerate(rows.columns) if name == given]
        exact = exact or [place for place, name in enumerate(names) if name == plain(given)]
        if not exact:
            raise SourceError(
                f"{rows.name}: --{role}-column {given!r}: there is no such column; there are "
                f"{_few(rows.columns)}"
            )
        if exact[0] in but:
            raise SourceError(f"{rows.name}: the column {given!r} is given for two things")
    else:
        free = [name for place, name in enumerate(names) if place not in but]
        # A y beside an x is a place in the image.
        known = next(
            (name for name in usual[role] if name in free and not (name == "y" and "x" in names)),
            None,
        )
        exact = [place for place, name in enumerate(names) if name == known and place not in but]
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
    if path is None or len(cells) > _UNNAMED or not rows.first:
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
