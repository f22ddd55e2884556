"""A list of images, with whatever columns people give it -> references to images."""

import os
import sys
import unicodedata
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from ....features.errors import SourceError, WrongUsage
from .. import tree
from ..image import LONGEST_PATH, ImageReference, Unreadable, read
from ..listing import Listing
from ..local import working_folder
from . import table
from .beside import Beside
from .columns import USUAL, Roles, plain, understood
from .table import Table

ENDINGS: Final = (b".csv", b".tsv")

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


def is_list(file: bytes) -> bool:
    """Whether a file is a list by its name, and no folder."""
    return file.lower().endswith(ENDINGS) and not os.path.isdir(file)


def is_frame(source: object) -> bool:
    """Whether a source is a data frame."""
    return hasattr(source, "columns") and hasattr(source, "__getitem__")


def checked(columns: Mapping[str, str] | None) -> dict[str, str]:
    """The columns that the user named; none of them is None."""
    named = {role: name for role, name in (columns or {}).items() if name is not None}
    unknown = named.keys() - USUAL.keys()
    if unknown:
        raise WrongUsage(f"columns {sorted(unknown)}: a list has {', '.join(USUAL)}")
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
    roles, rows, notes = understood(rows, columns)
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
    listing = Listing(
        root.name,
        found,
        by_name=by_name,
        notes=missed,
        label_notes=notes,
        passed_over={"listed again": again} if again else {},
    )
    if not any(image.far for image in found):
        return listing
    from ..remote.address import settled

    return settled(listing)


class _Row(NamedTuple):
    table: Table
    roles: Roles
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
        if role is not None and plain(self.table.columns[role]) == "isvalid":
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


def _shown(cell: str) -> str:
    """A cell, for a message that can be read at a glance whatever the cell holds."""
    return cell if len(cell) <= _MOST_SHOWN else cell[: _MOST_SHOWN - 3] + "..."
