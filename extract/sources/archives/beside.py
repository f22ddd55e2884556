"""Members of an archive that belong together by their names: images, and labels beside them."""

import json
import os
import re
import unicodedata
from collections.abc import Collection
from typing import Final

from ..lists.columns import label_in

SUFFIXES: Final = (".cls", ".json")
"""Members that say what is in the image of the same name (WebDataset)."""

MOST_BYTES: Final = 1 << 20
"""Of such a member; larger ones are data of other kinds."""

_LONGEST_LABEL: Final = 1000

_PARTS: Final = re.compile(rb"(?:\.[A-Za-z_][A-Za-z0-9_-]*)*")
"""What WebDataset has between the key of a sample and a suffix: `.left` in 0003.left.jpg. A date or
a number with dots is none of it."""


class Labels:
    """Labels that members beside images say.

    An image has that of the member with its own name but for the suffix. If there is none, it has
    that of its sample (WebDataset): all members whose names are the same up to the first dot.
    """

    def __init__(self) -> None:
        self._said: dict[str, dict[bytes, str]] = {suffix: {} for suffix in SUFFIXES}
        self._parts: dict[bytes, list[bytes]] = {}
        self._texts: dict[str, str] = {}
        self._unclear: list[str] = []

    def add(self, path: bytes, data: bytes) -> bool:
        """Take in a member that lies beside images; False if it says no label."""
        stem, suffix = os.path.splitext(path)
        kind = os.fsdecode(suffix).lower()
        said = label(kind, data)
        if said is None:
            return False
        self._said[kind][stem] = self._texts.setdefault(said, said)
        key = _key(stem)
        if key is not None and key != stem:
            stems = self._parts.setdefault(key, [])
            if stem not in stems:
                stems.append(stem)
        return True

    def of(self, path: bytes) -> str | None:
        """The label of an image, if one is said."""
        stem, _ = os.path.splitext(path)
        said = self._of(stem) or self._of(path)  # 1.json and 1.jpg.json
        if said is not None:
            return said
        key = _key(stem)
        if key is None:
            return None
        claims = [key] if self._of(key) is not None else []
        claims += self._parts.get(key, [])
        if len(claims) > 1:
            one, other = (os.fsdecode(claim + self._suffix(claim)) for claim in claims[:2])
            self._unclear.append(
                f"{one} and {other} both have a label for {os.fsdecode(path)}, which has neither"
            )
        return self._of(claims[0]) if len(claims) == 1 else None

    def notes(self) -> list[str]:
        """A line on images of which it is not clear which label is theirs."""
        if not self._unclear:
            return []
        more = len(self._unclear) - 1
        return [self._unclear[0] + (f"; so it is with {more:,} other images" if more else "")]

    def _of(self, stem: bytes) -> str | None:
        return next((said[stem] for said in self._said.values() if stem in said), None)

    def _suffix(self, stem: bytes) -> bytes:
        return next(kind for kind, said in self._said.items() if stem in said).encode()


def label(suffix: str, data: bytes) -> str | None:
    """The label that a member beside an image says, if it does."""
    try:
        text = data.decode("utf-8-sig")
        if suffix == ".json":
            found = json.loads(text)
            text = label_in(found) if isinstance(found, dict) else ""
        text.encode()
    except (ValueError, RecursionError):  # not UTF-8, or no JSON
        return None
    text = unicodedata.normalize("NFC", text.strip())
    said = 0 < len(text) <= _LONGEST_LABEL and "\0" not in text and "\n" not in text
    return text if said else None


def about_samples(paths: Collection[bytes]) -> list[str]:
    """A line on images that are one sample (WebDataset), as one and its mask are."""
    samples: dict[bytes, list[bytes]] = {}
    for path in paths:
        stem, _ = os.path.splitext(path)
        if (key := _key(stem)) is not None and key != stem:
            samples.setdefault(key, []).append(path)
    for path in paths if samples else ():
        stem, _ = os.path.splitext(path)
        if stem in samples:
            samples[stem].insert(0, path)
    several = [images for images in samples.values() if len(images) > 1]
    if not several:
        return []
    one, other, *_ = map(os.fsdecode, several[0])
    such = f"{len(several):,} samples have several images, such as {one} and {other}"
    return [f"{such}; all are taken, so leave out those that are masks"]


def _key(stem: bytes) -> bytes | None:
    """What a name without its suffix has up to its first dot; None if its dots are of its own."""
    folder, slash, name = stem.rpartition(b"/")
    first, dot, rest = name.partition(b".")
    return folder + slash + first if first and _PARTS.fullmatch(dot + rest) else None
