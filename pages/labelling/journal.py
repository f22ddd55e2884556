"""Labels as they are given -> lines of a file that are on the disk before anybody is told so."""

import contextlib
import datetime
import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeGuard

from ...features import durable
from ...features.errors import HeadstartError, first_line

if sys.platform != "win32":
    import fcntl

ENDING: Final = ".jsonl"

_KIND: Final = "headstart-labels"
_VERSION: Final = 1
_HEAD: Final = {"journal": _KIND, "version": _VERSION}
_OPENED: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
_DIGEST: Final = 64  # hexadecimal digits of a SHA-256

Event = dict[str, Any]
"""A line: ``{"classes": [name, ...]}``, that may be given; ``{"labels": {name: [digest, ...]}}``,
where the name "" takes labels away, and ``was`` has the labels before; ``{"undo": true}``, the last
labels that were not undone."""


class Journal:
    """An append-only file of labels, by the SHA-256 of the images, that one process has open.

    Attributes
    ----------
    events : list of Event
        What was in it when it was opened, in order.

    Raises
    ------
    HeadstartError
        If the file is something else, damaged before its end, cannot be written, or is open in
        another server.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        durable.require_target(path)
        new = not path.exists()
        try:
            self._descriptor = os.open(path, _OPENED, 0o666)
        except OSError as error:
            raise durable.cannot_write(path, error, work_kept=False) from error
        try:
            self._lock()
            self.events, self._size = _read(path, self._descriptor)
            if not self._size:
                self._write(_HEAD)
            if new:
                durable.sync(path.absolute().parent)
        except BaseException:
            os.close(self._descriptor)
            raise

    def append(self, event: Mapping[str, Any]) -> None:
        """Add a line; it is on the disk when this returns.

        Raises
        ------
        HeadstartError
            If it cannot be written; then nothing of it is kept.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._write({"at": now, **event})

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._descriptor)  # which ends the lock

    def _write(self, event: Mapping[str, Any]) -> None:
        data = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        try:
            # What a write that failed left behind is overwritten, and no line begins inside it.
            os.ftruncate(self._descriptor, self._size)
            os.lseek(self._descriptor, self._size, os.SEEK_SET)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise durable.cannot_write(self.path, error, work_kept=False) from error
        self._size += len(data)

    def _lock(self) -> None:
        if sys.platform == "win32":
            return  # there, servers are kept apart by nothing but care
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                return  # no locks here
            raise HeadstartError(
                f"{self.path}: another labelling page has it open; close that one (Ctrl-C where it "
                f"was started), or choose another output by -o"
            ) from error


def _read(path: Path, descriptor: int) -> tuple[list[Event], int]:
    """The events of a journal, and how many bytes of it are whole lines."""
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read()
    end = data.rfind(b"\n") + 1  # what follows was being written when the process was killed
    lines = data[:end].split(b"\n")[:-1]
    if not lines:
        if data.strip(b"\0") and not json.dumps(_HEAD, separators=(",", ":")).encode().startswith(
            data
        ):
            raise _not_ours(path)
        return [], 0
    try:
        head = json.loads(lines[0])
        if not isinstance(head, dict) or head.get("journal") != _KIND:
            raise _not_ours(path)
    except ValueError as error:
        raise _not_ours(path) from error
    if head.get("version") != _VERSION:
        raise HeadstartError(
            f"{path}: a journal of labels of version {head.get('version')!r}; this headstart reads "
            f"version {_VERSION}; use the version of headstart that wrote it"
        )
    return [_event(path, number, line) for number, line in enumerate(lines[1:], 2)], end


def _event(path: Path, number: int, line: bytes) -> Event:
    try:
        event = json.loads(line)
        if _sound(event):
            found: Event = event
            return found
        reason = "it is no label, class or undo"
    except (ValueError, RecursionError) as error:
        reason = first_line(error)
    raise HeadstartError(
        f"{path}, line {number}: damaged ({reason}); delete the line to go on without it, or "
        f"choose another output by -o"
    )


def _sound(event: Any) -> bool:
    if not isinstance(event, dict):
        return False
    if "labels" in event:
        sides = event["labels"], event.get("was", {})
        return all(isinstance(one, dict) and all(map(_digests, one.values())) for one in sides)
    return event.get("undo") is True or _texts(event.get("classes"))


def _digests(values: object) -> bool:
    return _texts(values) and all(len(one) == _DIGEST for one in values)


def _texts(values: object) -> TypeGuard[list[str]]:
    return isinstance(values, list) and all(isinstance(one, str) for one in values)


def _not_ours(path: Path) -> HeadstartError:
    return HeadstartError(
        f"{path}: is not a journal of labels, which would be kept there; choose another output by "
        f"-o, or move that file away"
    )


def labels_event(
    labels: Mapping[str, Sequence[str]],
    was: Mapping[str, Sequence[str]],
    queue: str,
    drawn: Mapping[str, str],
) -> Event:
    """The line for labels of images, by digest.

    It says which labels images had before, in which queue they were given, and what was predicted
    of those drawn at random.
    """
    event: Event = {"labels": {name: list(digests) for name, digests in labels.items()}}
    if was:  # to undo: a feature file may have the new labels by then
        event["was"] = {name: list(digests) for name, digests in was.items()}
    if queue:
        event["queue"] = queue
    if drawn:
        event["drawn"] = dict(drawn)
    return event
