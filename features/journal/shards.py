"""Shards: parts of one output that separate processes make, and what all of them were asked.

That is kept beside the units until the file is sealed.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .. import durable
from ..durable.remote import puts
from ..errors import FeatureFileError, WrongUsage
from .outputs import Output
from .units import ENDING, folder_of

_NAME: Final = "shards.json"

SECRET, GRAPH = "secret", "graph"
"""Fields of it: that the source had a password or a signature, which is not kept; the digest of the
quantised backbone, which is beside the units before."""

_MOST: Final = 100_000


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of several parts of the images of a source: those whose paths hash to it."""

    number: int
    """From 1."""
    of: int

    @classmethod
    def named(cls, shard: str | Sequence[int]) -> "Shard":
        """What ``"3/8"`` or ``(3, 8)`` is."""
        if isinstance(shard, str):
            found = re.fullmatch(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*", shard)
            numbers = [int(one) for one in found.groups()] if found else []
        else:
            given: list[Any] = list(shard) if isinstance(shard, Sequence) else []
            numbers = given if all(type(one) is int for one in given) else []
        if len(numbers) != 2 or not 1 <= numbers[0] <= numbers[1] <= _MOST:
            raise WrongUsage(
                f"shard {shard!r}: which one of how many is expected, counted from 1, such as 3/8; "
                f"at most {_MOST:,}"
            )
        return cls(*numbers)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, path: bytes) -> bool:
        """Whether an image falls to it."""
        return whose(path, self.of) == self.number


def whose(path: bytes, of: int) -> int:
    """The number of the shard that has an image, of so many.

    It depends on the path alone: whatever else there is, and however much of it is done, the image
    stays where it is.
    """
    return int.from_bytes(hashlib.sha256(path).digest()[:8], "big") % of + 1


def agree(out: Path, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep what the first shard was asked; a later one has to be asked the same.

    What is kept comes back: of two that begin together the quantised backbone (`GRAPH`) may be two.

    Raises
    ------
    WrongUsage
        If it is not; the message names the field.
    """
    output, path = Output.at(out), folder_of(out) / _NAME
    data = (json.dumps(asked, indent=1) + "\n").encode("ascii")
    if output.far:
        puts.create(output.server, f"{ENDING}/{_NAME}", data)
    else:
        try:
            path.parent.mkdir(exist_ok=True)
            durable.publish(path, data)
        except OSError as error:
            raise durable.cannot_write(path.parent, error) from error
    return require_same(out, asked)


def require_same(out: Path, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse a shard that is asked other than those before it, if there are any; what those were.

    That images were read with a password, or which graph they made of the backbone, is no wish.
    """
    theirs, mine = kept(out), json.loads(json.dumps(asked))
    if theirs is None:
        return {}
    for field in sorted((mine.keys() | theirs.keys()) - {SECRET, GRAPH}):
        if mine.get(field) != theirs.get(field):
            raise WrongUsage(
                f"{out}: its first shard was asked with {field} {theirs.get(field)!r}, and this "
                f"one with {mine.get(field)!r}; ask all the same, or delete "
                f"{folder_of(out) / _NAME} to begin with others"
            )
    return theirs


def kept(out: Path) -> dict[str, Any] | None:
    """What the shards were asked; None if there were none since the file was sealed."""
    output, path, data = Output.at(out), folder_of(out) / _NAME, None
    if output.far:
        data = output.server.read(f"{ENDING}/{_NAME}")
    else:
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise FeatureFileError(f"{path}: cannot be read: {error.strerror}") from error
    if data is None:
        return None
    try:
        asked = json.loads(data)
    except ValueError:
        asked = None
    if not isinstance(asked, dict) or not asked.keys() >= {"of", "source"}:
        raise FeatureFileError(
            f"{path}: damaged; delete it and run a shard again, or the command without --shard"
        )
    return asked


def discard(out: Path) -> None:
    """Forget it: the file is sealed."""
    output = Output.at(out)
    if output.far:
        output.drop([_NAME])
    else:
        (folder_of(out) / _NAME).unlink(missing_ok=True)
