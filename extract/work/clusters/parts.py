"""What is to be done, in parts that are cut when their turn comes."""

import collections
import math
import random
from collections.abc import Iterator, Sequence

from ...sources.image import ImageReference


class Parts:
    """What is to be done, in parts of at most so many images that are cut when they are asked for.

    There are `among` parts at least, if there are as many images.
    """

    def __init__(self, todo: Sequence[ImageReference], most: int, among: int) -> None:
        self._todo = todo
        self._most = min(most, math.ceil(len(todo) / among))
        self._starts = collections.deque(range(0, len(todo), self._most))

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Sequence[ImageReference]]:
        return (self._cut(start) for start in self._starts)

    def first(self) -> Sequence[ImageReference]:
        """The next one."""
        return self._cut(self._starts[0])

    def drop_first(self) -> None:
        """Do without the next one: it is done."""
        self._starts.popleft()

    def shuffle(self) -> None:
        """Put them into an order of this run's own."""
        random.shuffle(self._starts)

    def among(self, width: int) -> "Parts":
        """The same images in so many parts at least."""
        left = [image for part in self for image in part]
        return Parts(left, self._most, width)

    def _cut(self, start: int) -> Sequence[ImageReference]:
        return self._todo[start : start + self._most]
