"""Parquet files with a column of vectors, and perhaps what is said of each in others."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ....features.errors import (
    MissingExtra,
    SourceError,
    first_line,
    install_command,
    listed,
)
from ..lists import examples, table
from ..lists.examples import Said
from ..lists.table import Table

VECTOR: Final = "vector"
"""Role of the column with the vectors."""
_ROWS: Final = 1024
"""Read at a time."""


class Parquet:
    """A Parquet file of vectors."""

    def __init__(self, path: str, columns: Mapping[str, str]) -> None:
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise MissingExtra(
                f"{path}: pyarrow, which reads Parquet, is not installed; get it with "
                f"{install_command('parquet')}"
            ) from error
        self._path, self._columns = path, columns
        if os.path.isdir(path):
            raise SourceError(
                f"{path}: is a folder; name one file, or write its parts into one (in Python "
                f"`headstart.features.write` takes an iterator of blocks)"
            )
        if not os.path.isfile(path):
            raise SourceError(f"{path}: cannot be read: no such file")
        with self._told():
            # Not whole columns at once, which may be larger than memory.
            self._file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
            self._schema = self._file.schema_arrow
        names = self._schema.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SourceError(
                f"{path}: has several columns of one name, {listed(twice)}; give each its own"
            )
        self.number = int(self._file.metadata.num_rows)
        self._vector = self._chosen()

    def said(self) -> Said:
        """What its other columns say of the examples."""
        names = [name for name in self._schema.names if name != self._vector]
        names = [name for name in names if not _nested(self._schema.field(name).type)]
        columns = {role: name for role, name in self._columns.items() if role != VECTOR}
        if not names and not columns:
            return examples.numbered(self.number)
        return examples.said(Table(self._path, names, self._rows(names)), columns)

    def blocks(self) -> Iterator[NDArray[np.generic]]:
        """The vectors, a few at a time."""
        from pyarrow import compute

        dimension, start = 0, 0
        with self._told():
            for batch in self._file.iter_batches(batch_size=_ROWS, columns=[self._vector]):
                column = batch.column(0)
                if not len(column):
                    continue
                if column.null_count:
                    at = start + int(np.flatnonzero(column.is_null().to_numpy(False))[0])
                    raise SourceError(f"{self._path}, row {at:,}: has no vector; leave it out")
                sizes = compute.list_value_length(column).to_numpy(zero_copy_only=False)
                dimension = dimension or int(sizes[0])
                if (sizes != dimension).any():
                    at = int(np.flatnonzero(sizes != dimension)[0])
                    raise SourceError(
                        f"{self._path}, row {start + at:,}: a vector of {sizes[at]:,} numbers, "
                        f"where those before have {dimension:,}; all are of one length"
                    )
                values = column.flatten().to_numpy(zero_copy_only=False)
                yield values.reshape(len(column), -1)
                start += len(column)

    def _rows(self, names: list[str]) -> Iterator[tuple[str, list[str]]]:
        row = 0
        with self._told():
            for batch in self._file.iter_batches(batch_size=_ROWS, columns=names):
                cells = [map(table.as_text, batch.column(name).to_pylist()) for name in names]
                for own in zip(*cells, strict=True):
                    yield f"row {row:,}", list(own)
                    row += 1

    def _chosen(self) -> str:
        """The column that has vectors: the one that is named, or the only one of lists."""
        asked = self._columns.get(VECTOR)
        lists = [one.name for one in self._schema if _of_numbers(one.type)]
        if asked is not None and asked not in lists:
            what = "is not of lists of numbers" if asked in self._schema.names else "is not there"
            raise SourceError(
                f"{self._path}: --vector-column {asked!r}: {what}; there are "
                f"{listed(lists) or 'none'}"
            )
        if asked is None and len(lists) != 1:
            raise SourceError(
                f"{self._path}: {len(lists)} of its columns could be vectors (lists of numbers): "
                f"{listed(lists) or 'none'}; name one by --vector-column"
            )
        return str(asked or lists[0])

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        from pyarrow import ArrowException

        try:
            yield
        except (ArrowException, OSError) as error:
            raise SourceError(f"{self._path}: cannot be read: {first_line(error)}") from error


def _nested(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_nested(kind))


def _of_numbers(kind: Any) -> bool:
    from pyarrow import types

    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if not lists:
        return False
    value = kind.value_type
    return bool(types.is_floating(value) or types.is_integer(value))
