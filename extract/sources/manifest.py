"""A list of images, with whatever columns people give it -> references to images."""

import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from ...features.errors import SourceError, WrongUsage
from . import table, tree
from .beside import LONGEST_PATH, Beside
from .image import ImageReference, Unreadable, read
from .listing import Listing
from .local import working_folder
from .table import Table

ENDINGS: Final = (b".csv", b".tsv")

_USUAL: Final[Mapping[str, Sequence[str]]] = {
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

_FLAGS: Final = {
    **dict.fromkeys(("true", "1", "yes", "1.0"), tree.VALIDATION),
    **dict.fromkeys(("false", "0", "no", "0.0", ""), tree.TRAIN),
}
"""Of fastai's column is_valid."""

_MOST_SHOWN: Final = 500  # characters of a cell, in a message


class Root(Protocol):
    """Where the images of a list lie."""

    name: str

    def reference(self, cell: str, label: str | None, split: str) -> ImageReference:
        """The image that a cell of a list means; a `LookupError` if it means several."""

    def searched(self) -> str:
        """Where it has been looked for images that are not there."""


class _Roles(NamedTuple):
    path: int
    label: int | None
    split: int | None


def is_list(file: bytes) -> bool:
    """Whether a file is a list by its name, and no folder."""
    return file.lower().endswith(ENDINGS) and not os.path.isdir(file)


def is_frame(source: object) -> bool:
    """Whether a source is a data frame."""
    return hasattr(source, "columns") and hasattr(source, "__getitem__")


def checked(columns: Mapping[str, str] | None) -> dict[str, str]:
    """The columns that the user named; none of them is None."""
    named = {role: name for role, name in (columns or {}).items() if name is not None}
    unknown = named.keys() - _USUAL.keys()
    if unknown:
        raise WrongUsage(f"columns {sorted(unknown)}: a list has {', '.join(_USUAL)}")
    return named


def of_file(file: bytes, columns: Mapping[str, str]) -> Listing:
    """The images that a CSV or TSV file lists, in its order."""
    name = os.fsdecode(file)
    if not os.path.exists(file):
        raise SourceError(
            f"{name}: no such folder or file; give a folder of images, a list of them or an image"
        )
    try:
        data, _ = read(file)
    except Unreadable as error:
        raise SourceError(f"{name}: this manifest cannot be used: {error}") from error
    root = Beside(os.path.dirname(file), os.path.abspath(name))
    return listed(table.of_bytes(data, name), root, columns)


def of_frame(frame: Any, columns: Mapping[str, str]) -> Listing:
    """The images that a data frame lists, in its order."""
    root = Beside(b"", working_folder())
    return listed(table.of_frame(frame), root, columns, by_name=True)


def of_input() -> Listing:
    """The images whose paths are on standard input: a line each, or ended by NULs."""
    data = b"" if sys.stdin is None else sys.stdin.buffer.read()
    ends = b"\0" if b"\0" in data else b"\n"
    lines = [line.removesuffix(b"\r") for line in data.split(ends)]
    rows = [(f"line {number}", [os.fsdecode(line)]) for number, line in enumerate(lines, 1) if line]
    root = Beside(b"", working_folder())
    return listed(Table("standard input", ["path"], rows), root, {}, by_name=True)


def listed(
    rows: Table, root: Root, columns: Mapping[str, str], *, by_name: bool = False
) -> Listing:
    """The images of a table's rows, in their order.

    Raises
    ------
    SourceError
        With line and column, if a row cannot be understood; if the images are somewhere else.
    """
    roles, rows, notes = _understood(rows, columns)
    images: dict[bytes, tuple[ImageReference, str]] = {}
    again = 0
    for where, cells in rows.rows:
        if len(cells) > len(rows.columns):
            raise SourceError(
                f"{rows.name}, {where}: {len(cells)} columns, where the first line has "
                f"{len(rows.columns)}; a cell with a separator in it is put in quotes"
            )
        image = _Row(rows, roles, where, cells).image(root)
        before = images.setdefault(image.path, (image, where))
        if before[1] != where:
            if (before[0].label, before[0].split) != (image.label, image.split):
                raise SourceError(
                    f"{rows.name}, {where}: {_shown(cells[roles.path])} is listed twice, first in "
                    f"{before[1]}, with another label or split"
                )
            again += 1
    if not images:
        raise SourceError(f"{rows.name}: the manifest lists no images")
    found = [image for image, _ in images.values()]
    missing = [image for image in found if not image.exists()]
    if len(missing) * 2 > len(found):
        raise SourceError(
            f"{rows.name}: {len(missing):,} of {len(found):,} images listed are not there, first "
            f"{_shown(os.fsdecode(missing[0].location))}; {root.searched()}"
        )
    missed = []
    if missing:
        missed.append(
            f"{len(missing):,} of {len(found):,} images listed are not there, first "
            f"{_shown(os.fsdecode(missing[0].path))}; they are skipped"
        )
    notes += tree.about_labels(image.label for image in found)
    return Listing(
        root.name,
        found,
        by_name=by_name,
        notes=missed,
        label_notes=notes,
        passed_over={"listed again": again} if again else {},
    )


class _Row(NamedTuple):
    table: Table
    roles: _Roles
    where: str
    cells: list[str]

    def image(self, root: Root) -> ImageReference:
        path = self.cells[self.roles.path]
        label, split = self.text(self.roles.label), self.text(self.roles.split)
        if not path.strip() or "\0" in path + label:
            raise self.wrong(self.roles.path, "the path is empty, or there is a NUL in the line")
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise self.wrong(self.roles.path, f"a path of more than {LONGEST_PATH:,} bytes")
        try:
            label.encode()
        except UnicodeEncodeError:
            raise self.wrong(
                self.roles.label, f"{_shown(ascii(label))} is not UTF-8; save the list as UTF-8"
            ) from None
        try:
            return root.reference(
                path, unicodedata.normalize("NFC", label) or None, self._split(split)
            )
        except LookupError as error:
            raise self.wrong(self.roles.path, str(error.args[0])) from None

    def text(self, role: int | None) -> str:
        return "" if role is None else self.cells[role].strip()

    def _split(self, word: str) -> str:
        role = self.roles.split
        if role is not None and _plain(self.table.columns[role]) == "isvalid":
            split = _FLAGS.get(word.casefold())
        else:
            split = tree.split_of(word)
        if split is None:
            raise self.wrong(
                role,
                f"unknown split {_shown(word)!r}; use {', '.join(tree.SPLIT_WORDS)} or leave it "
                f"empty",
            )
        return split

    def wrong(self, role: int | None, what: str) -> SourceError:
        column = "" if role is None else f", column {self.table.columns[role]!r}"
        return SourceError(f"{self.table.name}, {self.where}{column}: {what}")


def _understood(rows: Table, columns: Mapping[str, str]) -> tuple[_Roles, Table, list[str]]:
    """Which columns are what; and the table itself, whose first line may be a row."""
    found = {role: _column(rows, role, columns.get(role)) for role in _USUAL}
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
        if _plain(rows.columns[label]) not in _USUAL["label"]:
            notes.append(f"the column {rows.columns[label]!r} is taken for the label")
    elif label is None and rest:
        named = _few([rows.columns[place] for place in rest])
        notes.append(f"no column is taken for the label; --label-column names one of {named}")
    elif label is not None and "label" not in columns:
        others = [
            rows.columns[place]
            for place in rest
            if place != label and _plain(rows.columns[place]) in _USUAL["label"][:7]
        ]
        if others:
            notes.append(
                f"the column {rows.columns[label]!r} is taken for the label, and not "
                f"{_few(others)}; --label-column names another"
            )
    return _Roles(path, label, split), rows, notes


def _column(rows: Table, role: str, given: str | None) -> int | None:
    names = [_plain(name) for name in rows.columns]
    if given is not None:
        exact = [place for place, name in enumerate(rows.columns) if name == given]
        exact = exact or [place for place, name in enumerate(names) if name == _plain(given)]
        if not exact:
            raise SourceError(
                f"{rows.name}: --{role}-column {given!r}: there is no such column; there are "
                f"{_few(rows.columns)}"
            )
    else:
        usual = next((name for name in _USUAL[role] if name in names), None)
        exact = [place for place, name in enumerate(names) if name == usual]
    if len(exact) > 1:
        raise SourceError(
            f"{rows.name}: two columns are called {rows.columns[exact[0]]!r}, and nothing says "
            f"which counts; rename or remove one"
        )
    return exact[0] if exact else None


def _without_names(rows: Table) -> tuple[_Roles, Table, list[str]] | None:
    """A list whose first line is an image, and not the names of its columns."""
    cells = list(rows.columns)
    path = next((k for k, cell in enumerate(cells) if tree.is_image_name(cell)), None)
    if path is None or len(cells) > len(_USUAL) or not rows.first:
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
    return _Roles(path, label, split), Table(rows.name, numbers, every()), [note]


def _plain(column: str) -> str:
    return re.sub(r"[\W_]+", "", column.casefold())


def _few(columns: Sequence[str]) -> str:
    """Names of columns, for a message of one line whatever the file is."""
    named = ", ".join(repr(column[:40]) for column in columns[:8]) or "none"
    return f"{named} and {len(columns) - 8} more" if len(columns) > 8 else named


def _shown(cell: str) -> str:
    """A cell, for a message that can be read at a glance whatever the cell holds."""
    return cell if len(cell) <= _MOST_SHOWN else cell[: _MOST_SHOWN - 3] + "..."
