"""A list of examples that are no images: which is which, and what is said of each."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Final

from ....features.errors import SourceError, WrongUsage
from ..image import Unreadable, read
from ..notes import about_groups
from . import manifest, table
from .columns import USUAL, Roles, column_of, require_text
from .table import Table

ROLES: Final[Mapping[str, Any]] = {
    "id": (
        "id exampleid identifier key uid uuid docid documentid sampleid rowid recordid path "
        "filepath filename file name"
    ).split(),
    "label": USUAL["label"],
    "split": USUAL["split"],
    "group": USUAL["group"],
    "text": (
        "text sentence document content body title transcript transcription caption question query "
        "utterance description"
    ).split(),
}
"""What columns are called, the likelier first, without capitals and whatever is no letter."""


_DIGITS: Final = 8
"""Of a row number."""


@dataclasses.dataclass(frozen=True)
class Said:
    """What a list says of N examples; None for a column that it does not have."""

    ids: list[str]
    labels: list[str | None] | None
    splits: list[str] | None
    groups: list[str | None] | None
    texts: list[str] | None
    notes: list[str]
    """What one might not expect of it, in sentences."""


def numbered(number: int) -> Said:
    """Examples of which nothing is said, by their numbers."""
    note = "nothing says what the examples are called; they go by their row number, from 0"
    return Said(_numbers(number), None, None, None, None, [note])


def of(source: Any, columns: Mapping[str, str]) -> Said:
    """What a CSV or TSV file, or a data frame, says of examples, in its order.

    Raises
    ------
    SourceError
        With line and column, if it cannot be understood.
    """
    if manifest.is_frame(source):
        return said(table.of_frame(source), columns)
    name = os.fsdecode(source)
    if not manifest.is_list(os.fsencode(name)):
        raise SourceError(f"{name}: is no list; a file NAME.csv or NAME.tsv is expected")
    try:
        data, _ = read(os.fsencode(name))
    except Unreadable as error:
        raise SourceError(f"{name}: this list cannot be used: {error}") from error
    return said(table.of_bytes(data, name), columns)


def said(rows: Table, columns: Mapping[str, str]) -> Said:
    """The same of a table."""
    require_text(rows)
    taken: list[int | None] = []
    places: dict[str, int | None] = {}
    # Those that are named first, so that no other role takes their columns.
    for role in sorted(ROLES, key=lambda role: role not in columns):
        places[role] = column_of(rows, role, columns.get(role), taken, ROLES)
        taken.append(places[role])
    roles = Roles(places["id"] or 0, places["label"], places["split"], places["group"])
    ids: list[str] = []
    labels: list[str | None] = []
    splits: list[str] = []
    groups: list[str | None] = []
    texts: list[str] = []
    known: dict[str | None, str | None] = {}
    for where, cells in rows.rows:
        row = manifest.Row(rows, roles, where, cells)
        row.require_even()
        if places["id"] is not None:
            ids.append(_id(row, cells[places["id"]]))
        label, group = row.label(), row.group()
        labels.append(known.setdefault(label, label))  # one text of all that are equal
        groups.append(known.setdefault(group, group))
        splits.append(row.split())
        texts.append(row.text(places["text"]))
        row.require_text(places["text"], texts[-1])
    notes = _notes(rows, places)
    if places["group"] is not None:
        column = rows.columns[places["group"]]
        notes += about_groups(column, zip(groups, splits, strict=True))
    return Said(
        ids if places["id"] is not None else _numbers(len(labels)),
        labels if places["label"] is not None else None,
        splits if places["split"] is not None else None,
        groups if places["group"] is not None else None,
        texts if places["text"] is not None else None,
        notes,
    )


def _id(row: manifest.Row, cell: str) -> str:
    if not cell.strip() or "\0" in cell:
        raise row.wrong(row.roles.path, "the id is empty, or has a NUL in it")
    return cell


def _notes(rows: Table, places: Mapping[str, int | None]) -> list[str]:
    notes = []
    if places["id"] is None:
        notes.append(
            "no column says what the examples are called; they go by their row number, from 0 "
            "(--id-column names one)"
        )
    rest = [name for place, name in enumerate(rows.columns) if place not in places.values()]
    if rest:
        named = ", ".join(repr(name[:40]) for name in rest[:8])
        more = f" and {len(rest) - 8} more" if len(rest) > 8 else ""
        is_ = "column is" if len(rest) == 1 else "columns are"
        notes.append(f"{len(rest)} {is_} not used: {named}{more}")
    return notes


def _numbers(number: int) -> list[str]:
    """Row numbers of one length, so that their order is that of the rows.

    The length is the same for more rows, which thus add to a file and rename nothing in it.
    """
    width = max(_DIGITS, len(str(number - 1)))
    return [f"{row:0{width}}" for row in range(number)]


def checked(columns: Mapping[str, str] | None, *more: str) -> dict[str, str]:
    """The columns that the user named; none of them is None."""
    named = {role: str(name) for role, name in (columns or {}).items() if name is not None}
    unknown = named.keys() - {*ROLES, *more}
    if unknown:
        raise WrongUsage(f"columns {sorted(unknown)}: there are {', '.join((*ROLES, *more))}")
    return named
