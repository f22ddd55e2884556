"""What the caches hold: how many, how big, since when unused; and removing what is not in use."""

import dataclasses
import logging
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from ...features import durable
from ...features.durable import caches
from ...features.journal.outputs import THERE
from ...features.journal.units import ENDING

_log = logging.getLogger("headstart")

MOST_GRAPHS: Final = 5_000_000_000
"""Bytes of converted and quantised backbones that are kept: sixty of Xception."""

_NAME: Final = r".+-[0-9]+-[0-9a-f]{16}"

_KINDS: Final = {
    "graphs": ("graphs", _NAME, "backbones, converted"),
    "int8": ("graphs", rf"{_NAME}\.graph", "backbones, quantised"),
    "embeddings": ("embeddings", rf"{_NAME}\.h5", "vectors of ImageEmbedder"),
    "heads": ("heads", r"[0-9a-f]{64}\.json", "notes on heads"),
    "remote": ("remote", r"[0-9a-f]{32}", "copies from URLs"),
}
"""The folder of each kind, what its things are called, and what they are."""

_FOLDERS: Final = frozenset(folder for folder, _, _ in _KINDS.values())

_UNFINISHED: Final = "unfinished"
_OTHER: Final = "other"
_MORE: Final = {
    _UNFINISHED: "being written",
    _OTHER: "not made by headstart",
}
"""What is in the folders beside that: `clear` removes of the one what dead processes left, and
nothing of the other (somebody may have named a folder of photographs as the cache)."""


@dataclasses.dataclass(frozen=True)
class Item:
    """One thing that is kept."""

    path: str
    bytes: int
    last_used: float
    """Seconds since 1970; if no use was noted, when it was written."""
    in_use: bool
    """Whether a living process uses it."""
    parts: tuple[str, ...]
    """Files and folders that it consists of."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """All that is kept of one kind."""

    what: str
    items: list[Item] = dataclasses.field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Of all items."""
        return sum(one.bytes for one in self.items)

    @property
    def in_use(self) -> int:
        """How many items a living process uses."""
        return sum(one.in_use for one in self.items)

    @property
    def last_used(self) -> float | None:
        """When any was used last; None if there is none."""
        return max((one.last_used for one in self.items), default=None)

    @property
    def unused_since(self) -> float | None:
        """When that one was used last which has been unused for longest."""
        return min((one.last_used for one in self.items), default=None)


@dataclasses.dataclass(frozen=True)
class Contents:
    """What the caches hold."""

    folder: str
    kinds: dict[str, Kind]
    """``graphs``: converted backbones. ``int8``: quantised ones. ``embeddings``: those of
    `ImageEmbedder`. ``heads``: which backbone each head that has predicted needs. ``remote``:
    copies of files at URLs. ``unfinished``: what is being written, or was when a process was
    killed. ``other``: what headstart did not make."""
    problems: list[str]
    """Folders that cannot be read, and why."""

    @property
    def bytes(self) -> int:
        """Of everything."""
        return sum(kind.bytes for kind in self.kinds.values())


@dataclasses.dataclass(frozen=True)
class Cleared:
    """What `clear` has done."""

    folder: str
    removed: int
    """Items."""
    freed: int
    """Bytes."""
    kept: list[str]
    """What was left, each with the reason."""
    problems: list[str]
    """What cannot be read or removed, and why."""


def contents() -> Contents:
    """Look at the caches; nothing is changed.

    Returns
    -------
    Contents
        Of ``$HEADSTART_CACHE``, or of the folder for headstart in the user's cache folder. What
        cannot be read is among its `problems`.

    Raises
    ------
    WrongUsage
        If there is no such folder, since the user has no home.
    """
    return _found(_FOLDERS)


def clear() -> Cleared:
    """Remove from the caches what no living process uses; it is made or fetched again when needed.

    What headstart did not make stays, and so does unfinished work on a file at a URL that has not
    arrived there: it is nowhere else. Where folders cannot be locked (Windows, some network disks)
    what was used within the last day counts as in use.

    Raises
    ------
    WrongUsage
        If there is no such folder, since the user has no home.
    """
    found = contents()
    problems, kept, left = list(found.problems), list[str](), set[str]()
    for name in _KINDS:
        for item in found.kinds[name].items:
            reason = "in use"
            try:
                if name == "remote" and _is_unsent(Path(item.path)):
                    reason = "unfinished work that is not at its URL yet; run its command again"
                elif caches.remove(Path(item.path), [Path(part) for part in item.parts]):
                    continue
            except OSError as error:
                problems.append(f"{item.path}: cannot be removed: {error.strerror or error}")
            else:
                kept.append(f"{item.path}: {reason}")
            left.add(item.path)
    for folder in _FOLDERS:
        durable.sweep(Path(found.folder) / folder)
    caches.forget([Path(path) for path in left])
    gone = [
        item
        for kind in found.kinds.values()
        for item in kind.items
        if item.path not in left and not any(map(os.path.lexists, item.parts))
    ]
    return Cleared(found.folder, len(gone), sum(one.bytes for one in gone), kept, problems)


def trim(most: int = MOST_GRAPHS) -> None:
    """Remove converted and quantised backbones, that of the oldest use first, down to `most` bytes.

    Those of earlier versions are never used again, and so go first. What is in use stays.
    """
    found = _found({"graphs"})
    items = [*found.kinds["graphs"].items, *found.kinds["int8"].items]
    total = sum(one.bytes for one in items)
    for item in sorted(items, key=lambda one: one.last_used):
        if total <= most:
            return
        try:
            if caches.remove(Path(item.path), [Path(part) for part in item.parts]):
                total -= item.bytes
        except OSError as error:
            _log.info("%s: cannot be removed: %s", item.path, error.strerror or error)


def size(path: str | os.PathLike[str]) -> int:
    """Bytes of a file, or of all files in a folder; what vanishes meanwhile is not counted."""
    whole = os.fspath(path)
    files: Iterable[str] = [whole]
    if os.path.isdir(whole) and not os.path.islink(whole):
        files = (os.path.join(place, name) for place, _, names in os.walk(whole) for name in names)
    total = 0
    for file in files:
        try:
            total += os.lstat(file).st_size
        except OSError:  # somebody is at work there
            continue
    return total


def _found(folders: Collection[str]) -> Contents:
    home, problems = caches.home(), list[str]()
    parts: dict[str, dict[Path, list[Path]]] = {name: {} for name in (*_KINDS, *_MORE)}
    for entry in _listed(home, problems):
        if entry.name in folders:
            for part in _listed(entry, problems):
                kind, path = _kind(part)
                parts[kind].setdefault(path, []).append(part)
        elif entry.name not in (*_FOLDERS, caches.USED):
            parts[_OTHER][entry] = [entry]
    whats = {name: what for name, (_, _, what) in _KINDS.items()} | _MORE
    kinds = {
        kind: Kind(whats[kind], [_item(path, some, kind) for path, some in items.items()])
        for kind, items in parts.items()
    }
    return Contents(str(home), kinds, problems)


def _listed(folder: Path, problems: list[str]) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{folder}: cannot be read: {error.strerror}")
        return []


def _kind(part: Path) -> tuple[str, Path]:
    """Of which kind a file or folder of the caches is, and to which item it belongs."""
    whole = part.with_name(part.name.removesuffix(ENDING))
    for name, (folder, pattern, _) in _KINDS.items():
        path = whole if name == "embeddings" else part
        if part.parent.name == folder and re.fullmatch(pattern, path.name, re.DOTALL):
            return name, path
    unfinished = part.name.startswith(".") and part.name.endswith(".tmp")
    return (_UNFINISHED if unfinished else _OTHER), part


def _item(path: Path, parts: Iterable[Path], kind: str) -> Item:
    written = 0.0
    for part in parts:
        try:
            written = max(written, os.lstat(part).st_mtime)
        except OSError:  # it has just gone
            continue
    return Item(
        path=str(path),
        bytes=sum(map(size, parts)),
        last_used=(kind in _KINDS and caches.last_use(path)) or written,
        in_use=kind in _KINDS and caches.is_used(path),
        parts=tuple(map(str, parts)),
    )


def _is_unsent(copy: Path) -> bool:
    """Whether a run on this URL has left units here that are not at the URL."""
    for folder in copy.glob(f"run-*/**/*{ENDING}"):
        try:
            there = set((folder.parent / THERE).read_text().splitlines())
        except FileNotFoundError:
            there = set()
        if any(unit.name not in there for unit in folder.glob("*.h5")):
            return True
    return False
