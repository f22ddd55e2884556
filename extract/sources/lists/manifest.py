"""A list of images, with whatever columns people give it -> references to images."""

import codecs
import collections
import dataclasses
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from ....features.errors import SourceError, WrongUsage
from .. import passed, tree
from ..image import LONGEST_PATH, ImageReference, Unreadable, read
from ..listing import Listing
from ..local import working_folder
from ..notes import about_groups
from . import table
from .beside import Beside
from .columns import USUAL, Roles, group_of, split_of, understood
from .table import Table

ENDINGS: Final = (b".csv", b".tsv")

_MOST_INPUT: Final = 1 << 30  # bytes, as of a file

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
    if not isinstance(columns, Mapping | None):
        raise WrongUsage(f"columns {columns!r}: a mapping is expected, as {{'label': 'breed'}}")
    named = {role: str(name) for role, name in (columns or {}).items() if name is not None}
    unknown = named.keys() - USUAL.keys()
    if unknown:
        raise WrongUsage(f"columns {sorted(unknown)}: a list has {', '.join(USUAL)}")
    return named


def of_file(file: bytes, columns: Mapping[str, str], *, labels: bool) -> Listing:
    """The images that a CSV or TSV file lists, in its order."""
    name = os.fsdecode(file)
    try:
        data, _ = read(file)
    except Unreadable as error:
        raise SourceError(f"{name}: this list cannot be used: {error}") from error
    root = Beside(os.path.dirname(file), os.path.abspath(name))
    return listed(table.of_bytes(data, name), root, columns, labels=labels)


def of_frame(frame: Any, columns: Mapping[str, str], *, labels: bool) -> Listing:
    """The images that a data frame lists, in its order."""
    root = Beside(b"", working_folder())
    return listed(table.of_frame(frame), root, columns, labels=labels, by_name=True)


def of_input() -> Listing:
    """The images whose paths are on standard input: a line each, or ended by NULs."""
    data = b"" if sys.stdin is None else sys.stdin.buffer.read(_MOST_INPUT + 1)
    if len(data) > _MOST_INPUT:
        raise SourceError(f"standard input: more than {_MOST_INPUT >> 20} MiB are no list of paths")
    data = data.removeprefix(codecs.BOM_UTF8)
    ends = b"\0" if b"\0" in data else b"\n"
    lines = [line.removesuffix(b"\r") for line in data.split(ends)]
    over, rows = passed.Over(), []
    for number, line in enumerate(lines, 1):
        name = os.fsdecode(line)
        if line and os.path.isdir(line):
            over.counts["folders"] += 1
        elif line and not tree.is_image_name(os.path.basename(name)):
            over.file(os.path.basename(name), line)
        elif line:
            rows.append((f"line {number}", [name]))
    if not rows:
        raise SourceError(f"standard input: no paths of images{over.instead()}")
    root = Beside(b"", working_folder())
    found = listed(Table("standard input", ["path"], rows), root, {}, by_name=True)
    return dataclasses.replace(
        found,
        notes=[*found.notes, *over.notes()],
        label_notes=["paths have no labels; a folder has, or a list with a column for them"],
        passed_over=dict(sorted(over.counts.items())),
    )


def listed(
    rows: Table,
    root: Root,
    columns: Mapping[str, str],
    *,
    labels: bool = True,
    by_name: bool = False,
) -> Listing:
    """The images of a table's rows, in their order; without `labels` nothing else is read.

    Raises
    ------
    SourceError
        With line and column, if a row cannot be understood; if the images are somewhere else.
    """
    roles, rows, notes = understood(rows, columns)
    if not labels:
        roles, notes = roles._replace(label=None, split=None, group=None), []
    images: dict[bytes, tuple[ImageReference, str]] = {}
    again = 0
    for where, cells in rows.rows:
        image = Row(rows, roles, where, cells).image(root)
        before = images.setdefault(image.path, (image, where))
        if before[1] != where:
            if _said(before[0]) != _said(image):
                raise SourceError(
                    f"{rows.name}, {where}: {_shown(cells[roles.path])} is listed twice, first in "
                    f"{before[1]}, with another label, split or group"
                )
            again += 1
    if not images:
        raise SourceError(f"{rows.name}: the list is empty: there is no image in it")
    found = [image for image, _ in images.values()]
    said = _missing(rows, roles, root, found)
    if again:
        said.append(
            "1 line lists an image again" if again == 1 else f"{again:,} lines list images again"
        )
    if roles.split is None and roles.label is not None:
        found, of_splits = _splits_by_folders(found)
        notes += of_splits
    notes += tree.about_labels(image.label for image in found)
    column = None if roles.group is None else rows.columns[roles.group]
    notes += about_groups(column, ((image.group, image.split) for image in found))
    listing = Listing(root.name, found, by_name=by_name, notes=said, label_notes=notes)
    if not any(image.far for image in found):
        return listing
    from ..remote.address import settled

    return settled(listing)


def _missing(rows: Table, roles: Roles, root: Root, found: Sequence[ImageReference]) -> list[str]:
    """A note of images that are not there, if there are some; an error, if they are most."""
    missing = [one for one in found if not one.exists() or os.path.isdir(one.location)]
    if not missing:
        return []
    count = f"{len(missing):,} of {len(found):,} images listed are not there, first "
    if len(missing) * 2 > len(found):
        raise SourceError(
            f"{rows.name}: {count}{_shown(os.fsdecode(missing[0].location))}; the column "
            f"{rows.columns[roles.path]!r} is taken for the paths, and {root.searched()}"
        )
    return [f"{count}{_shown(os.fsdecode(missing[0].path))}; they are skipped"]


def _splits_by_folders(
    found: Sequence[ImageReference],
) -> tuple[list[ImageReference], list[str]]:
    """The images with the splits that their folders are named after, if every folder is."""
    folders = [tuple(os.fsdecode(image.path).split("/")[:-1]) for image in found]
    if () in folders:
        return [*found], []
    meanings, _ = tree.understand(collections.Counter(folders))
    splits = [meanings[folder].split for folder in folders]
    if set(splits) == {tree.NO_SPLIT}:
        return [*found], []
    images = [
        dataclasses.replace(image, split=split) for image, split in zip(found, splits, strict=True)
    ]
    return images, ["the list has no column of splits; they are taken from the folders"]


def _said(image: ImageReference) -> tuple[str | None, str, str | None]:
    return image.label, image.split, image.group


class Row(NamedTuple):
    """A line of a list, read by what its columns are."""

    table: Table
    roles: Roles
    where: str
    cells: list[str]

    def image(self, root: Root) -> ImageReference:
        """The image that it lists."""
        self.require_even()
        path = self.cells[self.roles.path]
        if not path.strip() or "\0" in path + self.text(self.roles.label):
            raise self.wrong(self.roles.path, "the path is empty, or there is a NUL in the line")
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise self.wrong(self.roles.path, f"a path of more than {LONGEST_PATH:,} bytes")
        label, group = self.label(), self.group()
        try:
            image = root.reference(path, label, self.split())
        except LookupError as error:
            raise self.wrong(self.roles.path, str(error.args[0])) from None
        return image if group is None else dataclasses.replace(image, group=group)

    def require_even(self) -> None:
        """Refuse a line with more cells than there are columns."""
        if len(self.cells) > len(self.table.columns):
            raise SourceError(
                f"{self.table.name}, {self.where}: {len(self.cells)} columns, where the first line "
                f"has {len(self.table.columns)}; a cell with a separator in it is put in quotes"
            )

    def label(self) -> str | None:
        """Its label; None if it has none."""
        said = self.text(self.roles.label)
        self.require_text(self.roles.label, said)
        return unicodedata.normalize("NFC", said) or None

    def group(self) -> str | None:
        """Its group; None if it has none."""
        said = self.text(self.roles.group)
        self.require_text(self.roles.group, said)
        try:
            return group_of(said)
        except ValueError as error:
            raise self.wrong(self.roles.group, str(error)) from None

    def require_text(self, role: int | None, cell: str) -> None:
        """Refuse a cell whose bytes are no UTF-8."""
        try:
            cell.encode()
        except UnicodeEncodeError:
            shown = cell.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            raise self.wrong(
                role,
                f"{_shown(shown)!r} is not UTF-8; save the list as UTF-8 (in Excel: CSV UTF-8)",
            ) from None

    def text(self, role: int | None) -> str:
        """The cell of a column, which may not be there."""
        return "" if role is None else self.cells[role].strip()

    def split(self) -> str:
        """Its split."""
        role, word = self.roles.split, self.text(self.roles.split)
        split = tree.NO_SPLIT if role is None else split_of(self.table.columns[role], word)
        if split is None:
            raise self.wrong(
                role,
                f"unknown split {_shown(word)!r}; use {', '.join(tree.SPLIT_WORDS)} or leave it "
                f"empty; --split-column names another column",
            )
        return split

    def wrong(self, role: int | None, what: str) -> SourceError:
        """What to raise of a cell."""
        column = "" if role is None else f", column {self.table.columns[role]!r}"
        return SourceError(f"{self.table.name}, {self.where}{column}: {what}")


def _shown(cell: str) -> str:
    """A cell, for a message that can be read at a glance whatever the cell holds."""
    return cell if len(cell) <= _MOST_SHOWN else cell[: _MOST_SHOWN - 3] + "..."
