"""What was understood of folders and labels -> lines about what one might not expect."""

import collections
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from ...features.layout import SPLIT_NAMES, TEST

NO_SPLIT: Final = SPLIT_NAMES[0]

_MOST_NAMES: Final = 5  # in a note

Parts = tuple[str, ...]
"""A path below the root of a source, name by name."""


class Meaning(NamedTuple):
    """What a folder says of the images that lie in it."""

    label: str | None
    split: str
    """One of `layout.SPLIT_NAMES`."""


def about_labels(labels: Iterable[str | None]) -> list[str]:
    """Notes on labels that may be one class under two names."""
    same: dict[str, set[str]] = collections.defaultdict(set)
    for label in {label for label in labels if label is not None}:
        same[" ".join(label.casefold().split())].add(label)
    pairs = [sorted(names) for names in same.values() if len(names) > 1]
    return [
        f"the classes {listed(names)} differ only in capitals or spaces; they are taken "
        f"for {len(names)} classes"
        for names in sorted(pairs)
    ]


def about_groups(column: str | None, rows: Iterable[tuple[str | None, str]]) -> list[str]:
    """Notes on what a column says: how many groups, and which have images on both sides.

    Parameters
    ----------
    column : str, optional
        Its name; None if there is none.
    rows : iterable of (str or None, str)
        Group and split of each image.
    """
    if column is None:
        return []
    inside: dict[str | None, set[bool]] = collections.defaultdict(set)
    count, without = 0, 0
    for group, split in rows:
        inside[group].add(split == SPLIT_NAMES[TEST])
        count += 1
        without += group is None
    groups = sorted(group for group in inside if group is not None)
    if not groups:
        return [f"the column {column!r} is empty: no image is in a group"]
    several = "1 group" if len(groups) == 1 else f"{len(groups):,} groups"
    rest = f"; {without:,} of {count:,} images are in none" if without else ""
    found = [f"the column {column!r} has {several}, which folds keep together{rest}"]
    parted = [group for group in groups if len(inside[group]) > 1]
    if parted:
        found.append(
            f"{listed(parted)} {'is' if len(parted) == 1 else 'are'} in the test split and outside "
            f"of it, so its scores are too good for new groups"
        )
    return found


def about_splits(
    folders: Mapping[Parts, int],
    placed: Mapping[Parts, Parts],
    meanings: Mapping[Parts, Meaning],
    words: Mapping[str, str],
    *,
    used: bool,
) -> list[str]:
    """Notes on names of splits that are none, and on images without a label."""
    notes = []
    labels = sorted({one.label for one in meanings.values() if one.label} & words.keys())
    if words and not used:
        without = next(
            parts for parts, names in sorted(placed.items()) if names and not {*names} & {*words}
        )
        named = sorted({name for names in placed.values() for name in names if name in words})
        one = len(named) == 1
        as_class = (" and taken for a class" if one else " and taken for classes") if labels else ""
        notes.append(
            f"{listed(named)} {'looks like a split' if one else 'look like splits'}, not "
            f"used as {'one' if one else 'such'}{as_class}, because other images (in "
            f"{'/'.join(without)}) are in none; split all images or none, or move those elsewhere"
        )
    elif labels:
        named_like = "is named like a split" if len(labels) == 1 else "are named like splits"
        notes.append(f"{listed(labels)} {named_like}, and taken for a class")
    unlabelled: collections.Counter[str] = collections.Counter()
    for parts, meaning in meanings.items():
        if meaning.label is None:
            unlabelled[meaning.split] += folders[parts]
    some = any(meaning.label is not None for meaning in meanings.values())
    for split, count in sorted(unlabelled.items()):
        if split != NO_SPLIT:
            notes.append(f"{_images(count)} of {split} {_have(count)} no label")
        elif some:
            notes.append(f"{_images(count)} beside the folders {_have(count)} no label")
    return notes


def about_classes(folders: Mapping[Parts, int], meanings: Mapping[Parts, Meaning]) -> list[str]:
    """Notes on labels, and on folders without images."""
    notes = about_labels(meaning.label for meaning in meanings.values())
    parents = {parts[:depth] for parts in folders for depth in range(len(parts))}
    empty = sorted(parts for parts, count in folders.items() if not count and parts not in parents)
    if empty and meanings:
        names = listed(["/".join(parts) for parts in empty])
        notes.append(f"{_folders(len(empty))} no images: {names}")
    return notes


def listed(names: Collection[str]) -> str:
    """The first names, for a line."""
    shown = [repr(name) for name in names][:_MOST_NAMES]
    more = len(names) - len(shown)
    if more:
        return f"{', '.join(shown)} and {more:,} more"
    return " and ".join([*([", ".join(shown[:-1])] if shown[:-1] else []), *shown[-1:]])


def _images(count: int) -> str:
    return f"{count:,} image" + ("" if count == 1 else "s")


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _folders(count: int) -> str:
    return "1 folder holds" if count == 1 else f"{count:,} folders hold"


def pooled(inside: Mapping[Parts, Parts]) -> list[str]:
    """A note of folders above the classes that have the same classes: they are not used."""
    above: dict[str, set[Parts]] = collections.defaultdict(set)
    for names in inside.values():
        if names:
            above[names[-1]].add(names[:-1])
    from_several = {label: found for label, found in above.items() if len(found) > 1}
    if not from_several:
        return []
    folders = sorted({"/".join(names) or "." for names in set.union(*from_several.values())})
    return [f"{listed(sorted(from_several))} stand below each of {listed(folders)}, and are pooled"]
