"""Archives that belong together: names with braces, and what their names say."""

import re
from collections.abc import Sequence
from typing import Final

from ....features.errors import SourceError
from .. import tree

SUFFIXES: Final = (
    *(".zip", ".tar"),
    *(".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz"),
)

_MOST_NAMES: Final = 100_000

_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_RANGE: Final = re.compile(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?")
_NUMBERED: Final = re.compile(
    r"[-_. ]+part[-_. ]*[a-z]{1,2}$|"
    r"[-_. ]*(?:part[-_. ]*)?\d+(?:[-_. ]*of[-_. ]*\d+)?$",
    re.IGNORECASE,
)
"""What tells one shard from the next: train-00000-of-00010, photos_part2, x.part-aa."""

_COPIED: Final = re.compile(
    r" *\(\d+\)$|[-_. ]+(?:copy|kopie|copie|copia)(?:[-_. ]*\d+)?$", re.IGNORECASE
)
"""What browsers and systems add for a second file of one name: photos (1), photos - Copy (2)."""


def expanded(name: str) -> list[str]:
    """The names that one with braces stands for: ``a-{00..12}.tar``, ``{train,val}.zip``."""
    names, done = [""], 0
    for braces in _BRACES.finditer(name):
        choices = _chosen(braces[1]) or [braces[0]]
        if len(names) * len(choices) > _MOST_NAMES:
            raise SourceError(f"{name}: more than {_MOST_NAMES:,} names")
        before = name[done : braces.start()]
        names = [one + before + choice for one in names for choice in choices]
        done = braces.end()
    return [one + name[done:] for one in names]


def _chosen(inside: str) -> Sequence[str]:
    numbers = _RANGE.fullmatch(inside)
    if numbers is None:
        return inside.split(",") if "," in inside else []
    first, last, step = int(numbers[1]), int(numbers[2]), int(numbers[3] or 1) or 1
    if abs(last - first) // step > _MOST_NAMES:
        raise SourceError(f"{{{inside}}}: more than {_MOST_NAMES:,} names")
    width = max(map(len, numbers.groups("")[:2])) if "0" in (numbers[1][0], numbers[2][0]) else 0
    sign = 1 if last >= first else -1
    return [f"{number:0{width}}" for number in range(first, last + sign, sign * step)]


def tops(names: Sequence[str]) -> list[tuple[str, ...]]:
    """What the names of several archives say, as if each were a folder around what is in it.

    ``train-000.tar`` and ``train-001.tar`` are ``train``; ``cat.zip`` and ``dog.zip`` are two; and
    ``photos-1.zip`` and ``photos-2.zip`` say nothing.
    """
    stems = [_NUMBERED.sub("", _original(_stem(name))) for name in names]
    meanings, _ = tree.understand({(stem,): 1 for stem in stems if stem})
    said = len(set(stems)) > 1 and all(stems)
    said = said or any(meaning.split != tree.NO_SPLIT for meaning in meanings.values())
    return [(stem,) if said and stem else () for stem in stems]


def _stem(name: str) -> str:
    base = name.rpartition("/")[2]
    longest = max((one for one in SUFFIXES if base.lower().endswith(one)), key=len, default="")
    return base[: len(base) - len(longest)]


def _original(stem: str) -> str:
    while (shorter := _COPIED.sub("", stem)) != stem:
        stem = shorter
    return stem


def paths(names: Sequence[str]) -> list[str]:
    """What each of several archives is called in the paths of its images: shortly, and apart."""
    short = [name.rpartition("/")[2] for name in names]
    if len(set(short)) == len(short):
        return short
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceError(f"{twice}: is given twice")
    folders = [name.split("/")[:-1] for name in names]
    alike = [len(set(level)) == 1 for level in zip(*folders, strict=False)]
    common = [*alike, False].index(False)
    return ["/".join(name.split("/")[common:]) for name in names]
