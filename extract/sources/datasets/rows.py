"""Rows of a data set that has a name: which are asked for, and a reference to one of them."""

import collections
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ....features.errors import SourceError, first_line
from .. import tree
from ..image import ImageReference

IMAGE_NAMES: Final = ("image", "img", "picture", "photo", "pixel_values", "jpg", "png")
LABEL_NAMES: Final = ("label", "labels", "class", "category", "target", "class_name", "label_name")
"""What the one that is meant is called, where a data set has several; the likelier first."""

_MAGIC: Final = (
    (b"\xff\xd8", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"RIFF", ".webp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)

_PART: Final = re.compile(r"(?:(?P<role>[^=\[\]]*)=)?(?P<rows>[^=]+)")


class Asked(NamedTuple):
    """``NAME[ROLE=ROWS,ROLE=ROWS]``, taken apart."""

    source: str
    """As it was written."""
    name: str
    """What stands between the prefix and the brackets."""
    parts: Sequence[tuple[str | None, str]]
    """Roles and rows; empty if all are asked for."""


class Slice(NamedTuple):
    """Rows of one split of a data set, and what they are to be."""

    said: str
    base: str
    """The split of the data set."""
    start: int
    stop: int
    split: str
    """One of `layout.SPLIT_NAMES`."""


Absolute = Iterable[tuple[str, int | None, int | None]]
"""Splits of a data set, each with its first row and the one after its last."""


def asked(source: str) -> Asked:
    """Take apart what a user wrote: ``PREFIX:NAME`` and perhaps rows in brackets."""
    rest = source.partition(":")[2].strip()
    name, bracket, inside = rest.partition("[")
    if bracket and os.path.isdir(os.path.expanduser(rest)):
        return Asked(source, rest, [])
    name = name.strip()
    if not name:
        raise SourceError(f"{source}: names no data set; write {source.partition(':')[0]}:NAME")
    if not bracket:
        return Asked(source, name, [])
    parts = []
    for part in _parts(inside[:-1]) if inside.endswith("]") else [None]:
        found = part and _PART.fullmatch(part)
        if not found:
            raise SourceError(
                f"{source}: the rows in brackets cannot be understood; write for example "
                f"{name}[train[:80%]] or {name}[train=train[:80%],test=train[80%:]]"
            )
        role = found["role"]
        if role is not None and (not role.strip() or tree.split_of(role) is None):
            raise SourceError(
                f"{source}: {role!r} is no split; before the = stands train, validation or test"
            )
        parts.append((role, found["rows"].strip()))
    return Asked(source, name, parts)


def slices(
    what: Asked, sizes: Mapping[str, int], absolute: Callable[[str], Absolute]
) -> tuple[list[Slice], list[str]]:
    """The rows that are asked for, and notes.

    Parameters
    ----------
    what : Asked
    sizes : mapping
        The splits of the data set, and how many rows each has.
    absolute : callable
        The library's own reading of an expression such as ``train[:40%]``; a `ValueError` or
        `KeyError` if it is none.

    Raises
    ------
    SourceError
        If there is no such split, an expression means no row, or a row is meant twice.
    """
    found, odd = [], set()
    for role, rows in what.parts or [(None, base) for base, size in sizes.items() if size]:
        try:
            ranges = list(absolute(rows))
        except (ValueError, KeyError, NotImplementedError) as error:
            raise SourceError(
                f"{what.source}: {rows!r}: {first_line(error)}; the splits are {_sizes(sizes)}"
            ) from error
        here = []
        for base, start, stop in ranges:
            split = role_of(base) if role is None else tree.split_of(role)
            if role is None and split == tree.NO_SPLIT:
                odd.add(base)
            start = 0 if start is None else start
            stop = sizes[base] if stop is None else stop
            if start < stop:
                here.append(Slice(rows, base, start, stop, split or tree.NO_SPLIT))
        if not here:
            raise SourceError(f"{what.source}: {rows!r} has no image; there are {_sizes(sizes)}")
        found += here
    if not found:
        raise SourceError(f"{what.source}: no images: the data set is empty")
    _require_apart(what.source, found)
    return found, [
        f"the split {base!r} is none of train, validation and test by its name; its images are in "
        f"no split"
        for base in sorted(odd)
    ]


def role_of(base: str) -> str:
    """What a split of a data set is by its name: as for a folder of that name."""
    return tree.understand({(base,): 1})[0][base,].split


def chosen(columns: Sequence[str], usual: Sequence[str]) -> str | None:
    """The only column, or else the one that is called as usual."""
    if len(columns) == 1:
        return columns[0]
    folded = {column.casefold(): column for column in columns}
    return next((folded[name] for name in usual if name in folded), None)


def require_columns(
    source: str, columns: Mapping[str, str], features: Collection[str], there: str
) -> None:
    """Refuse columns that a user named and the data set does not have."""
    for column in columns.values():
        if column not in features:
            raise SourceError(f"{source}: has no {column!r}; there are {there}")


def require_no_splits(source: str, columns: Mapping[str, str]) -> None:
    """Refuse a column of splits where the splits are those of the data set."""
    if "split" in columns:
        raise SourceError(
            f"{source}: a data set has splits of its own, and no column of them; write which rows "
            f"are which after its name, such as [train=train[:80%],test=train[80%:]]"
        )


def about_unlabelled(images: Sequence[ImageReference], label: str) -> list[str]:
    """A note on images that have no label, where there is a column of labels."""
    count = sum(image.label is None for image in images)
    if not count:
        return []
    none = "is empty, or the number of no class, as -1 is"
    return [f"{count:,} of {len(images):,} images have no label: their {label!r} {none}"]


def suffix(head: bytes) -> str:
    """What the name of an image of these first bytes ends in."""
    return next((suffix for magic, suffix in _MAGIC if head.startswith(magic)), "")


def _parts(inside: str) -> list[str]:
    """What stands between commas, but for those in brackets."""
    parts, depth = [""], 0
    for letter in inside:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts] if not depth else [""]


def _require_apart(source: str, found: Sequence[Slice]) -> None:
    by_base: dict[str, list[Slice]] = collections.defaultdict(list)
    for one in found:
        by_base[one.base].append(one)
    for base, ranges in by_base.items():
        ranges.sort(key=lambda one: (one.start, one.stop))
        for one, other in itertools.pairwise(ranges):
            if other.start < one.stop:
                last = min(one.stop, other.stop) - 1
                raise SourceError(
                    f"{source}: {one.said!r} and {other.said!r} have images in common (of "
                    f"{base}, numbers {other.start:,} to {last:,}); no image can be listed twice"
                )


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{base} ({size:,})" for base, size in sizes.items()) or "none"
