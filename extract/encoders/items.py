"""What a user gives to be embedded -> items, one by one: what each is called, and its content."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, Final

import numpy as np

from ...features.digest import ArrayDigest
from ...features.errors import WrongUsage
from ...features.journal.known import Known
from ...features.journal.writing.rows import as_name, is_missing
from ...features.layout import SPLIT_NAMES
from ...features.records import UNREAD, FileStat, must_read
from ..sources.image import LONGEST_PATH, ImageReference, Unreadable
from ..sources.tree import NO_SPLIT, split_of

_LONGEST_TEXT: Final = 160
"""Bytes of a text that is its own id: every row of a file has room for the longest."""
_DIGITS: Final = 16
"""Of the digest, in the id of a longer one."""

Digest = Callable[[Any], bytes | str]


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """Something to embed."""

    value: Any
    """As it was given, and as the encoder gets it."""
    stat: FileStat
    """What it is found again by; its `path` is the id."""
    digest: bytes
    """SHA-256 of its content and kind; `UNREAD` if it is a file that cannot be read."""
    label: str | None
    split: str
    group: str | None
    reason: str = ""
    """Why it cannot be embedded; empty if nothing speaks against it."""


class Items:
    """The items of a call, once, in their order."""

    def __init__(
        self,
        items: Iterable[Any],
        known: Known,
        *,
        ids: Iterable[Any] | None = None,
        labels: Iterable[Any] | None = None,
        splits: Iterable[Any] | None = None,
        groups: Iterable[Any] | None = None,
        digest: Digest | None = None,
    ) -> None:
        self._items = require_several("items", items)
        self._known = known
        self._digest = digest
        given = {"ids": ids, "labels": labels, "splits": splits, "groups": groups}
        self._beside = {
            name: require_several(name, values)
            for name, values in given.items()
            if values is not None
        }
        self._places: dict[bytes, int] = {}
        self._times: dict[bytes, int] = {}
        self.total = len(items) if isinstance(items, Sized) else None
        for name, values in self._beside.items():
            if self.total is not None and isinstance(values, Sized) and len(values) != self.total:
                raise WrongUsage(
                    f"{name}: {len(values):,} of them, but {self.total:,} items; give one for each"
                )

    def __iter__(self) -> Iterator[Item]:
        columns = {name: iter(values) for name, values in self._beside.items()}
        end = object()
        number = 0
        for number, value in enumerate(self._items, 1):
            row = {name: next(values, end) for name, values in columns.items()}
            for name, cell in row.items():
                if cell is end:
                    raise WrongUsage(
                        f"{name}: {number - 1:,} of them, but more items; give one for each"
                    )
            yield self._item(number - 1, value, row)
        for name, values in columns.items():
            if next(values, end) is not end:
                raise WrongUsage(f"{name}: more than the {number:,} items; give one for each")

    def _item(self, number: int, value: Any, row: dict[str, Any]) -> Item:
        own = self._own_id(number, row["ids"]) if "ids" in row else None
        if self._digest is None and isinstance(value, os.PathLike):
            digest, stat, reason = self._of_file(number, value, own)
        else:
            digest, size = self._content(number, value)
            path = self._usual_id(value, digest) if own is None else own
            # 0 is for what has nothing to go by.
            stat = FileStat(path, size, 0, int.from_bytes(digest[:8], "little") or 1)
            reason = ""
        self._places[stat.path] = number
        return Item(
            value,
            stat,
            digest,
            _name("labels", number, row.get("labels")),
            _split(number, row.get("splits")),
            _name("groups", number, row.get("groups")),
            reason,
        )

    def _content(self, number: int, value: Any) -> tuple[bytes, int]:
        """SHA-256 of an item and its kind, so that a text is no other thing of its bytes."""
        if self._digest is not None:
            said = self._digest(value)
            if not isinstance(said, str | bytes) or not said:
                raise WrongUsage(
                    f"digest: of items[{number}] it gave {said!r:.80}; bytes or a text that tells "
                    f"this content from all others is expected"
                )
            data = said.encode("utf-8", "surrogatepass") if isinstance(said, str) else said
            return _tagged("said", data), len(said)
        if isinstance(value, str):
            data = value.encode("utf-8", "surrogatepass")
            return _tagged("text", data), len(data)
        if isinstance(value, bytes | bytearray | memoryview):
            data = bytes(value)
            return _tagged("bytes", data), len(data)
        array = self._array(value)
        if array is None or array.dtype.hasobject:
            raise WrongUsage(
                f"items[{number}] is a {type(value).__name__}: texts, bytes, arrays of numbers and "
                f"paths (os.PathLike) are known by their content; for others give digest=, a "
                f"function from an item to its SHA-256"
            )
        total = ArrayDigest()
        total.array("array", array)
        if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
            total.array("mask", np.ma.getmaskarray(value))
        return bytes.fromhex(total.hexdigest()), array.nbytes

    @staticmethod
    def _array(value: Any) -> np.ndarray[Any, Any] | None:
        """What is an array, or a tensor of another library, as NumPy has it."""
        if hasattr(value, "detach"):  # of PyTorch: on a device, or with a gradient
            value = value.detach().cpu()
        return np.asarray(value) if hasattr(value, "__array__") else None

    def _of_file(
        self, number: int, value: os.PathLike[Any], own: bytes | None
    ) -> tuple[bytes, FileStat, str]:
        """Digest and status of a file, and why it cannot be read; unchanged, it is not read."""
        location = os.fsencode(value)
        if not location or b"\0" in location:
            raise WrongUsage(f"items[{number}] is no path of a file: {location!r:.80}")
        path = self._numbered(location) if own is None else own
        reference = ImageReference(path, location)
        seen = self._known.seen(stat := reference.stat())
        if seen is not None and not must_read(seen):
            return seen.digest, stat, ""
        try:
            data, stat = reference.read()
        except (Unreadable, MemoryError) as error:
            return UNREAD, FileStat(path, 0, 0, 0), str(error) or "it does not fit into the memory"
        return _tagged("file", data), stat, ""

    def _own_id(self, number: int, given: Any) -> bytes:
        if isinstance(given, bytes):
            path = given
        elif isinstance(given, str | os.PathLike):
            try:
                path = os.fsencode(given)
            except UnicodeEncodeError as error:
                raise WrongUsage(f"ids[{number}] is {given!a:.80}: half a character") from error
        elif isinstance(given, int | np.integer) and not isinstance(given, bool):
            path = str(int(given)).encode()
        else:
            raise WrongUsage(
                f"ids[{number}] is a {type(given).__name__}; a text or a whole number is expected"
            )
        if not path or b"\0" in path or len(path) > LONGEST_PATH:
            raise WrongUsage(
                f"ids[{number}]: 1 to {LONGEST_PATH:,} bytes without a NUL are expected; received "
                f"{path!r:.80}"
            )
        if (before := self._places.get(path)) is not None:
            raise WrongUsage(
                f"ids: {os.fsdecode(path)!r:.80} is that of items[{before}] and of "
                f"items[{number}]; give each an id of its own"
            )
        return path

    def _usual_id(self, value: Any, digest: bytes) -> bytes:
        if isinstance(value, str) and value.isprintable() and value:
            data = value.encode("utf-8")  # what is printable is text
            if len(data) > _LONGEST_TEXT:
                start = data[: _LONGEST_TEXT - _DIGITS - 1].decode("utf-8", "ignore")
                data = f"{start}~{digest.hex()[:_DIGITS]}".encode()
            return self._numbered(data)
        return self._numbered(digest.hex().encode())

    def _numbered(self, path: bytes) -> bytes:
        """An id that no item before has: of the second of the same text, the text and #2."""
        if path not in self._places:
            return path
        times = self._times.get(path, 1)
        while True:
            times += 1
            own = b"%b#%d" % (path, times)
            if own not in self._places:
                self._times[path] = times
                return own


def require_several(name: str, values: Any) -> Iterable[Any]:
    """Refuse what is no row of values, though one could go through it."""
    single = isinstance(values, str | bytes | os.PathLike | Mapping) or not isinstance(
        values, Iterable
    )
    if single or (isinstance(values, np.ndarray) and not values.ndim):
        raise WrongUsage(
            f"{name}: several are expected, as a list, an array or an iterator; received a "
            f"{type(values).__name__}"
        )
    several: Iterable[Any] = values
    return several


def _tagged(kind: str, data: bytes) -> bytes:
    return hashlib.sha256(f"{kind}\0".encode() + data).digest()


def _name(what: str, number: int, value: Any) -> str | None:
    """A label or group as a text; None, NaN and the empty text say that there is none."""
    try:
        return as_name(value)
    except (TypeError, ValueError) as error:
        raise WrongUsage(
            f"{what}[{number}] is {value!a:.80}; a text or a whole number is expected, or None"
        ) from error


def _split(number: int, value: Any) -> str:
    split = NO_SPLIT if is_missing(value) else split_of(str(value))
    if split is None:
        raise WrongUsage(f"splits[{number}] is {value!r:.80}; use one of {', '.join(SPLIT_NAMES)}")
    return split
