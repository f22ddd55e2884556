"""A list as people have it -> rows of text, each with the line that it is on."""

import codecs
import csv
import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ....features.errors import SourceError

_LONGEST_LINE: Final = 1 << 20
"""Characters; csv itself takes 131,072 a column. A longer line is no list's, and could have as many
columns as there is memory for."""

_MARKS: Final = (
    (codecs.BOM_UTF32_LE, ""),  # begins as that of UTF-16 does
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS: Final = ",;\t"


@dataclass(frozen=True)
class Table:
    """Columns and rows; every row has as many cells as there are columns."""

    name: str
    columns: Sequence[str]
    rows: Iterable[tuple[str, list[str]]]
    """Where each row is, and its cells."""
    first: str = ""
    """Where the names of the columns are."""


def of_bytes(data: bytes, name: str) -> Table:
    """A CSV file: separated by comma, semicolon or tab; UTF-8, or UTF-16 with its mark.

    Raises
    ------
    SourceError
        With the line, if it is not valid CSV; while the rows are read, too.
    """
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    if not encoding:
        raise SourceError(f"{name}: is UTF-32, which no spreadsheet writes; save it as UTF-8")
    # surrogateescape keeps file names that are not UTF-8, byte for byte.
    errors = "strict" if encoding == "utf-16" else "surrogateescape"
    text = io.TextIOWrapper(io.BytesIO(data), encoding, errors, newline="")
    try:
        head = text.readline(_LONGEST_LINE)
        if "\0" in head[:200] and encoding == "utf-8" and head.count("\0") * 4 > len(head[:200]):
            raise SourceError(f"{name}, line 1: holds NULs; save the list as UTF-8 text")
        text.seek(0)
    except UnicodeError as error:
        raise SourceError(f"{name}: not valid UTF-16: {error}; save it as UTF-8") from error
    delimiter = max(_DELIMITERS, key=_outside_quotes(head).count)
    rows = _rows(text, delimiter, name)
    first, columns = next(rows, ("line 1", []))
    return Table(name, [column.strip() for column in columns], _even(rows, columns), first)


def of_frame(frame: Any) -> Table:
    """A data frame of pandas or polars, or whatever has `columns` and gives one as a list.

    Raises
    ------
    SourceError
        If it does not.
    """
    name = "the data frame"
    if hasattr(frame, "collect") and not hasattr(frame, "to_dict"):
        raise SourceError(f"{name}: it is lazy; call its collect() and give what that returns")
    columns = list(frame.columns)
    if not all(isinstance(column, str | int) for column in columns):
        raise SourceError(f"{name}: its columns have no names; give one of pandas or polars")
    try:
        cells = [list(map(as_text, frame[column].to_list())) for column in columns]
    except (AttributeError, KeyError, TypeError) as error:
        raise SourceError(
            f"{name}: a column gives no list ({error}); have two columns one name? Its columns are "
            f"{', '.join(map(str, columns[:8]))}"
        ) from error
    rows = ((f"row {number}", list(row)) for number, row in enumerate(zip(*cells, strict=True)))
    return Table(name, [str(column).strip() for column in columns], rows)


def as_text(value: Any) -> str:
    """What a cell of a data frame is in a list; empty if it is missing."""
    if isinstance(value, float):
        # Whole numbers become floats where one of them is missing.
        return "" if math.isnan(value) else str(int(value) if value.is_integer() else value)
    if value is None:
        return ""
    if isinstance(value, bytes | os.PathLike):
        return os.fsdecode(value)
    text = str(value)
    return "" if text in ("<NA>", "NaT") else text


def _outside_quotes(line: str) -> str:
    return "".join(line.split('"')[::2])


def _rows(text: io.TextIOWrapper, delimiter: str, name: str) -> Iterator[tuple[str, list[str]]]:
    """Rows that are not empty, by the line that each begins in."""
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    while True:
        where = f"line {reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            told = str(error)
            if "',' expected" in told or "expected after" in told:
                told += "; a quote inside a quoted cell is written twice"
            raise SourceError(f"{name}, {where}: not valid CSV: {told}") from error
        except UnicodeError as error:
            raise SourceError(
                f"{name}, {where}: not valid UTF-16: {error}; save the list as UTF-8"
            ) from error
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield where, cells


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise csv.Error(f"a line of {_LONGEST_LINE:,} characters or more")
        yield line


def _even(
    rows: Iterator[tuple[str, list[str]]], columns: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    """Rows as long as there are columns; one that has more is returned as it is."""
    for where, cells in rows:
        while len(cells) > len(columns) and not cells[-1].strip():
            del cells[-1]  # spreadsheets end lines with empty cells
        yield where, cells + [""] * (len(columns) - len(cells))
