"""Folders below one root, wherever they lie -> what their names mean: labels and splits."""

import collections
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from ...features.layout import SPLIT_NAMES
from ..images.decode import SUFFIXES
from .notes import Meaning as Meaning
from .notes import Parts as Parts
from .notes import about_classes, about_splits, listed, pooled
from .notes import about_labels as about_labels

NO_SPLIT, TRAIN, VALIDATION, TEST = SPLIT_NAMES

SPLIT_WORDS: Final = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), TEST),
}
"""Those of Hugging Face's imagefolder (`data_files.py` of datasets)."""

_SEPARATED: Final = re.compile(r"[-._ 0-9]+|(?<=[a-z])(?=[A-Z])")
"""What may stand before and after a split word: train_images, test-2, ValidationSet."""

_CONTAINERS: Final = frozenset(
    (
        "data frames image images img imgs jpeg jpegimages jpg photo photos pic pics picture "
        "pictures png"
    ).split()
)
"""Names of folders that say no more than that there are images in them."""

_NEUTRAL: Final = _CONTAINERS | frozenset(
    "dataset full large original raw resized sample samples set small split subset tar".split()
)
"""Words that may stand beside that of a split."""

_OTHERS: Final = frozenset(
    (
        "__macosx __pycache__ @eadir @recycle @recently-snapshot @tmp #recycle #snapshot "
        "$recycle.bin recycler recycled lost+found lost.dir found.000 _gsdata_ thumbs.db "
        "ehthumbs.db desktop.ini picasa.ini"
    ).split()
) | {"system volume information", "network trash folder", "temporary items"}
"""Folders that systems, network drives and other programs leave between those of people."""


def is_others(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or another program's own."""
    return name.startswith(".") or name.casefold() in _OTHERS


def is_image_name(name: str) -> bool:
    """Whether a name has a suffix of image files."""
    dot = name.rfind(".")
    return dot > 0 and name[dot:].casefold() in SUFFIXES


def split_of(cell: str) -> str | None:
    """The split that a word means in a list; None if it is no such word."""
    word = cell.strip().casefold()
    return NO_SPLIT if word in ("", NO_SPLIT) else SPLIT_WORDS.get(word)


def understand(folders: Mapping[Parts, int]) -> tuple[dict[Parts, Meaning], list[str]]:
    """Labels and splits of folders, by the number of images that lie directly in each; and notes.

    If every image has the word of a split on its path, below whatever wraps all of them, that is
    its split. The label is the name of the innermost folder that is no split; where that is the
    same for all images of several folders (``cat/images``, ``dog/images``), that of the one above.
    A note is a line about what was understood otherwise than one might think.
    """
    placed = {parts: _composed(parts) for parts, count in folders.items() if count}
    words = _words({name for parts in placed.values() for name in parts})
    where = _split_places({parts for parts in placed.values() if parts}, words)
    wraps = _common([names[: where[names]] for names in placed.values() if names in where])
    beside = _siblings(placed.values())
    splits: dict[Parts, str] = {}
    inside: dict[Parts, Parts] = {}
    for parts, names in placed.items():
        place = where.get(names)
        splits[parts], inside[parts] = NO_SPLIT, names
        if place is not None:
            splits[parts] = words[names[place]]
            after = names[place + 1 :]
            # seg_train/seg_train, as some archives unpack; but train/valid beside train/broken.
            if after[:1] == names[place : place + 1] and beside[names[: place + 1]] == 1:
                after = after[1:]
            inside[parts] = names[wraps:place] + after
    labels, notes = _labels(inside, words, beside)
    for parts, label in _in_split_names(placed, where, inside).items():
        labels[parts] = label
    meanings = {parts: Meaning(labels[parts], splits[parts]) for parts in placed}
    notes += about_splits(folders, placed, meanings, words, used=bool(where))
    notes += about_classes(folders, meanings)
    return meanings, notes


def _composed(parts: Parts) -> Parts:
    # As a Mac writes it, a name with an accent is another string of bytes, and the same name.
    return tuple(unicodedata.normalize("NFC", name) for name in parts)


def _words(names: Collection[str]) -> dict[str, str]:
    """Those of the names that are the word of a split, and which."""
    found: dict[str, str] = {}
    rests: dict[Parts, dict[str, str]] = collections.defaultdict(dict)
    for name in names:
        tokens = [token.casefold() for token in _SEPARATED.split(name) if token]
        words = [token for token in tokens if token in SPLIT_WORDS]
        rest = tuple(token for token in tokens if token not in SPLIT_WORDS)
        if len(words) != 1:
            continue
        if set(rest) <= _NEUTRAL:
            found[name] = SPLIT_WORDS[words[0]]
        else:
            rests[rest][name] = SPLIT_WORDS[words[0]]
    # seg_train is a split beside seg_test; "train station" alone is none.
    if any(len(set(group.values())) > 1 for group in rests.values()):
        for group in rests.values():
            found |= group
    return found


def _siblings(paths: Iterable[Parts]) -> dict[Parts, int]:
    """For each folder, in how many ways images lie in it: directly, and by the folders in it."""
    ways: dict[Parts, set[str | None]] = collections.defaultdict(set)
    for names in paths:
        for depth in range(len(names)):
            ways[names[:depth]].add(names[depth])
        ways[names].add(None)
    return {folder: len(found) for folder, found in ways.items()}


def _in_split_names(
    placed: Mapping[Parts, Parts], where: Mapping[Parts, int], inside: Mapping[Parts, Parts]
) -> dict[Parts, str]:
    """Labels that are in the names of the splits: train_cats, train_dogs, test_cats."""
    rests = {}
    for parts, names in placed.items():
        if names in where and not inside[parts]:
            tokens = _SEPARATED.split(names[where[names]])
            rest = [one for one in tokens if one and one.casefold() not in SPLIT_WORDS]
            if rest and not {one.casefold() for one in rest} <= _NEUTRAL:
                rests[parts] = " ".join(rest)
    return rests if len(set(rests.values())) > 1 else {}


def _split_places(paths: Collection[Parts], words: Mapping[str, str]) -> dict[Parts, int]:
    """Where each path has its split; nothing if some path has none."""
    places = {
        parts: [place for place, name in enumerate(parts) if name in words] for parts in paths
    }
    if not places or not all(places.values()):
        return {}
    # Where all have one at the same depth, that is it: `test/train` is of the class test if there
    # is a `blood/train`; a wrapping folder called `val` around `train` and `test` is none.
    common = set.intersection(*map(set, places.values()))
    varied = [depth for depth in common if len({parts[depth] for parts in paths}) > 1]
    if common:
        depth = min(varied or common)
        return dict.fromkeys(paths, depth)
    return {parts: found[0] for parts, found in places.items()}


def _common(paths: Collection[Parts]) -> int:
    """How many folders all paths begin with."""
    levels = zip(*paths, strict=False)
    return next(
        (depth for depth, level in enumerate(levels) if len(set(level)) > 1),
        min(map(len, paths), default=0),
    )


def _labels(
    inside: Mapping[Parts, Parts], words: Mapping[str, str], beside: Mapping[Parts, int]
) -> tuple[dict[Parts, str | None], list[str]]:
    labels = {parts: names[-1] if names else None for parts, names in inside.items()}
    through = {
        parts: names
        for parts, names in inside.items()
        if names and names[-1].casefold() in _CONTAINERS and beside[_composed(parts[:-1])] == 1
    }
    names = set(labels.values())
    if not through and len(names) == 1:
        # Of one name all over, that of the folders above may be the classes: n01/x, n02/x.
        above = {parts[-2:-1] for parts in inside}
        if len(above) > 1 and () not in above and not {one for (one,) in above} & words.keys():
            through = dict(inside)
    if not any(len(found) > 1 for found in through.values()) and set(through) != set(inside):
        return labels, pooled(inside)  # photos/ beside drawings/
    for parts, found in through.items():
        labels[parts] = found[-2] if len(found) > 1 else None
    if not through:
        return labels, pooled(inside)
    seen = listed(sorted({found[-1] for found in through.values()}))
    return labels, [f"folders called {seen} are no classes; those above them are, if any"]
