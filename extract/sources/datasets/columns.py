"""The columns of a data set -> which are images, labels, splits and groups."""

from collections.abc import Mapping, Sequence
from typing import Any

from ....features.errors import SourceError
from .. import tree
from ..lists.columns import USUAL, group_of, plain, without_groups
from . import rows
from .arrow import Meant, holds, texts


def understood(
    source: str, datasets: Any, data: Any, columns: Mapping[str, str]
) -> tuple[Meant, list[str]]:
    """The columns that are image and label; those that a user named are. And notes."""
    from pyarrow import types

    kinds = {field.name: field.type for field in data.features.arrow_schema}
    there = ", ".join(
        f"{name} ({one.dtype})"
        if isinstance(one, datasets.Value)
        else f"{name} ({type(one).__name__})"
        for name, one in data.features.items()
    )
    rows.require_columns(source, columns, kinds, there)
    usual = {*rows.IMAGE_NAMES}
    of_kind = [name for name, one in data.features.items() if isinstance(one, datasets.Image)]
    by_name = [name for name, kind in kinds.items() if name.casefold() in usual and holds(kind)]
    image = columns.get("path") or rows.chosen(of_kind or by_name, rows.IMAGE_NAMES)
    if image is None or not holds(kinds[image]):
        raise SourceError(
            f"{source}: it is not clear which column holds the images that have labels: {there}"
        )
    classes = [
        name
        for name, one in data.features.items()
        if isinstance(one, datasets.ClassLabel) and plain(name) not in USUAL["split"]
    ]
    classes = without_groups(classes, columns)
    by_name = [
        name
        for name, kind in kinds.items()
        if name.casefold() in rows.LABEL_NAMES
        and name != columns.get("group")
        and any(is_kind(kind) for is_kind in (*texts(types), types.is_integer, types.is_boolean))
    ]
    label = columns.get("label") or rows.chosen(classes, rows.LABEL_NAMES)
    label = label or (rows.chosen(by_name, rows.LABEL_NAMES) if not classes else None)
    if label is None:
        why = f"may be {' or '.join(classes)}" if classes else "is none of its columns"
        meant = _with_groups(source, data, Meant(image, None, None), columns)
        return meant, [f"the label {why}: the images have none ({there})"]
    names = getattr(data.features[label], "names", None)
    return _with_groups(source, data, Meant(image, label, names), columns), []


def _with_groups(source: str, data: Any, meant: Meant, columns: Mapping[str, str]) -> Meant:
    """The same with the column of groups, if it is called so, or was named."""
    from pyarrow import types

    kinds = {field.name: field.type for field in data.features.arrow_schema}
    fit = [
        name
        for name, kind in kinds.items()
        if name not in (meant.image, meant.label)
        and not (types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))
    ]
    column = columns.get("group")
    if column is not None and column not in fit:
        raise SourceError(
            f"{source}: the column {column!r} has no groups: it is that of images or labels, or "
            f"of neither text nor numbers"
        )
    column = column or next((name for name in fit if plain(name) in USUAL["group"]), None)
    if column is None:
        return meant
    names = getattr(data.features[column], "names", None)
    groups = {}
    for value in data.data.column(column).unique().to_pylist():
        said = value
        if names is not None and value is not None:
            said = names[value] if 0 <= value < len(names) else None
        try:
            groups[value] = group_of(said)
        except ValueError as error:
            raise SourceError(f"{source}: column {column!r}: {error}") from error
    return meant._replace(group=column, groups=groups)


def with_splits(
    source: str, data: Any, meant: Meant, columns: Mapping[str, str], *, elsewhere: bool
) -> tuple[Meant, list[str]]:
    """The same with the column of splits, where there are none `elsewhere`, or it was named."""
    from pyarrow import types

    named = columns.get("split")
    there = [
        field.name
        for field in data.features.arrow_schema
        if field.name not in (meant.image, meant.label)
        and (
            any(is_kind(field.type) for is_kind in (*texts(types), types.is_boolean))
            or hasattr(data.features[field.name], "names")
        )
    ]
    usual = (name for word in USUAL["split"] for name in there if plain(name) == word)
    column = named or next(usual, None)
    if column is None:
        return meant, []
    if elsewhere and not named:
        note = (
            f"the column {column!r} is not used, as the data set's own splits or the names of its "
            f"files say others; --split-column {column} takes those in it"
        )
        return meant, [note]
    names = getattr(data.features[column], "names", None)
    splits, odd = {}, []
    for value in data.data.column(column).unique().to_pylist():
        split = _split(value, names, flags=plain(column) == "isvalid")
        splits[value] = split or tree.NO_SPLIT
        odd += [value] if split is None else []
    if not odd:
        return meant._replace(split=column, splits=splits), []
    words = ", ".join(tree.SPLIT_WORDS)
    if named:
        raise SourceError(
            f"{source}: column {column!r}: unknown split {str(odd[0])[:100]!r}; use {words} or "
            f"leave it empty"
        )
    return meant, [
        f"the column {column!r} is not used for splits: {str(odd[0])[:100]!r} is none of {words}"
    ]


def _split(value: Any, names: Sequence[str] | None, *, flags: bool) -> str | None:
    """What a value in the column of splits means; None if it is no split."""
    if value is None:
        return tree.NO_SPLIT
    if isinstance(value, bool):
        meant = tree.VALIDATION if value else tree.TRAIN
        return meant if flags else None
    if names and isinstance(value, int):
        value = names[value] if 0 <= value < len(names) else ""
    return tree.split_of(str(value))
