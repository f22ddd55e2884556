"""Wishes for images -> thumbnails that fit into a page, each in it once."""

import base64
import collections
import dataclasses
import functools
import io
import itertools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ...features.journal.progress import step
from ..pictures import Missing, Shown, Texts

SIDE: Final = 128
ROOM: Final = 3_000_000
"""Bytes of all thumbnails as they stand in the page: a mail takes it, and a telephone opens it."""
MOST: Final = 900
"""Thumbnails: to read and to decode more takes longer than to train."""
TEXTS: Final = 6000
"""Of examples that are no images, with up to 512 bytes each."""
_THREADS: Final = 8
_AT_ONCE: Final = 64

Wish = int | tuple[int, int]
"""A row of the feature file, or two of which the difference is wanted."""


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """A thumbnail as it stands in the page."""

    id: str
    data: str
    """WebP, base64."""
    width: int
    height: int

    @property
    def x(self) -> float:
        """Where its left side is if its middle is that of a square."""
        return (SIDE - self.width) / 2

    @property
    def y(self) -> float:
        """Where its upper side is."""
        return (SIDE - self.height) / 2


@dataclasses.dataclass(frozen=True)
class Thumbnails:
    """Those that were made, and why others could not be."""

    made: dict[Wish, Thumbnail]
    missing: dict[Wish, str]
    texts: dict[int, str] = dataclasses.field(default_factory=dict)
    """What stands in place of images, where examples are none."""

    @classmethod
    def of(
        cls, pictures: Shown, wishes: Iterable[Wish], room: int = ROOM, most: int = MOST
    ) -> "Thumbnails":
        """Make as many as there is room for, the first wishes first; a wish counts once."""
        if isinstance(pictures, Texts):
            rows = dict.fromkeys(wish for wish in wishes if isinstance(wish, int))
            return cls({}, {}, {row: pictures.text(row) for row in itertools.islice(rows, TEXTS)})
        made: dict[Wish, Thumbnail] = {}
        missing: dict[Wish, str] = {}
        ordered = list(dict.fromkeys(wishes))
        most_made = min(most, len(ordered))
        with ThreadPoolExecutor(_THREADS) as pool, step("thumbnails", most_made, "image") as done:
            for start in range(0, len(ordered), _AT_ONCE):
                some = ordered[start : start + _AT_ONCE]
                found_all = list(pool.map(functools.partial(_made, pictures), some))
                done.add(len(some))
                for wish, found in zip(some, found_all, strict=True):
                    if isinstance(found, str):
                        missing[wish] = found
                        continue
                    data = base64.b64encode(found).decode("ascii")
                    if len(data) > room or len(made) == most:
                        return cls(made, missing)
                    room -= len(data)
                    made[wish] = Thumbnail(f"t{len(made)}", data, *_size(found))
        return cls(made, missing)

    def has(self, wish: Wish) -> bool:
        """Whether something is known of it: what it looks like, or why that cannot be seen."""
        return wish in self.made or wish in self.missing or wish in self.texts

    @property
    def reasons(self) -> dict[str, int]:
        """Why images are missing, the most frequent reason first, and of how many."""
        rows = [reason for wish, reason in self.missing.items() if isinstance(wish, int)]
        return dict(collections.Counter(rows).most_common())


def _made(pictures: Shown, wish: Wish) -> bytes | str:
    """A WebP file, or why there is none."""
    try:
        if isinstance(wish, tuple):
            return pictures.difference(*wish, SIDE)
        return pictures.thumbnail(wish, SIDE)
    except Missing as error:
        return str(error)


def _size(data: bytes) -> tuple[int, int]:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.size
