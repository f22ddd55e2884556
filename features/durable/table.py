"""Columns -> a table in a file, which appears whole or not at all; and a table in a notebook."""

import contextlib
import csv
import html
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from .. import durable
from ..errors import encodable

_MOST_OF_A_CELL: Final = 200


def write_csv(path: str | os.PathLike[str], columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of equal lengths as UTF-8; only names that are not text keep their bytes.

    Any reader of CSV finds one row for each, whatever is in the names; a spreadsheet takes one that
    begins with ``=`` for a formula.

    Raises
    ------
    HeadstartError
        If the file cannot be written; one that was there before is untouched.
    """
    with written(path) as file:
        writer = csv.writer(_Rows(file), lineterminator=_Rows.END)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def in_html(caption: str, rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> str:
    """A small table for notebooks; the first cell of a row is its name.

    Whatever the texts are, they are shown and never taken for HTML.
    """
    lines = [f"<table><caption>{_cell(caption)}</caption>"]
    if header:
        lines.append("<tr>" + "".join(f"<th>{_cell(one)}</th>" for one in header) + "</tr>")
    for first, *others in rows:
        cells = "".join(f"<td>{_cell(one)}</td>" for one in others)
        lines.append(f"<tr><th>{_cell(first)}</th>{cells}</tr>")
    return "\n".join([*lines, "</table>"])


def _cell(text: str) -> str:
    text = encodable(text)
    return html.escape(text if len(text) <= _MOST_OF_A_CELL else text[: _MOST_OF_A_CELL - 1] + "…")


@contextlib.contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to, which takes its place at the end."""
    with durable.written(Path(path)) as temporary, temporary.open("wb") as file:
        yield file


class _Rows:
    r"""Takes rows that end with ``\r\n`` and writes them into a file with ``\n`` at their ends.

    `csv` quotes only those ends of lines that it is told to write, and a name may hold either.
    """

    END: Final = "\r\n"

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, row: str) -> None:
        text = row.removesuffix(self.END) + "\n"
        try:
            self._file.write(text.encode("utf-8", "surrogateescape"))  # not text: keeps its bytes
        except UnicodeEncodeError:  # half a character of UTF-16, which has none
            self._file.write(text.encode("utf-8", "backslashreplace"))
