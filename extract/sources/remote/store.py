"""A file system that fsspec opens, by its URL, in whatever process and thread."""

import asyncio
import dataclasses
import functools
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from ....features.durable.remote import system
from ....features.durable.remote.url import EXTRA, WEB, public
from ....features.errors import SourceError
from ..image import Unreadable
from .reader import Reader, attempted

_T = TypeVar("_T")

_ASKED: Final = 1000
"""Files of which a server is asked what it says, before the answers are waited for."""


@dataclasses.dataclass(frozen=True)
class Store:
    """Where a URL leads; it pickles small, and opens the file system when it is first asked."""

    url: str

    @property
    def name(self) -> str:
        """The URL as it is shown and recorded: without passwords and signatures."""
        return public(self.url)

    @property
    def protocol(self) -> str:
        """What stands before the first colon."""
        return self.url.partition(":")[0].casefold()

    @property
    def root(self) -> str:
        """What the file system calls the place that the URL names."""
        fs = self.listing
        return str(fs._strip_protocol(self.url)) if _shared(self.url) else self._opened("list").root

    @property
    def listing(self) -> Any:
        """The file system, with its own ways of trying again: a listing has many pages."""
        return self._opened("list").fs

    def begin(self, path: str, start: int | None, end: int | None) -> "Future[bytes] | None":
        """Begin to read bytes of a file; None if the file system waits for every answer itself."""
        reader = self._reader()
        if not reader.asynchronous:
            return None
        return asyncio.run_coroutine_threadsafe(reader.tried(path, start, end), reader.fs.loop)

    def read(self, path: str, start: int | None, end: int | None) -> bytes:
        """Bytes of a file, tried a few times; an `Unreadable` says why there are none."""
        begun = self.begin(path, start, end)
        if begun is not None:
            try:
                return begun.result()
            finally:
                begun.cancel()
        reader = self._reader()
        return attempted(lambda: reader.cat(path, start, end))

    def gives_parts(self, path: str) -> bool:
        """Whether parts of a file can be fetched; where that is not certain the server is asked."""
        reader = self._reader()
        if self.protocol not in WEB or "::" in self.url:
            return True
        return asyncio.run_coroutine_threadsafe(reader.gives_parts(path), reader.fs.loop).result()

    def begin_info(self, path: str) -> "Future[Mapping[str, Any]]":
        """Begin to ask what the server says of a file; an `Unreadable` says why it says nothing."""
        reader = self._reader()
        if reader.asynchronous:
            return asyncio.run_coroutine_threadsafe(reader.told(path), reader.fs.loop)
        ended: Future[Mapping[str, Any]] = Future()
        try:
            ended.set_result(attempted(lambda: reader.alone(lambda: reader.fs.info(path))))
        except Unreadable as error:
            ended.set_exception(error)
        return ended

    def infos(self, paths: Sequence[str]) -> dict[str, "Mapping[str, Any] | Unreadable"]:
        """What the server says of each file, or why it says nothing; many are asked at a time."""
        found: dict[str, Mapping[str, Any] | Unreadable] = {}
        for first in range(0, len(paths), _ASKED):
            begun = {path: self.begin_info(path) for path in paths[first : first + _ASKED]}
            try:
                for path, answer in begun.items():
                    try:
                        found[path] = answer.result()
                    except Unreadable as error:
                        found[path] = error
            finally:
                for answer in begun.values():
                    answer.cancel()
        return found

    def _reader(self) -> Reader:
        return self._opened("read")

    def _opened(self, use: str) -> Reader:
        # fsspec keeps an instance for each thread; but one client can be asked by all of them, for
        # all buckets, and to make one takes 0.3 s.
        shared = f"{self.protocol}://" if _shared(self.url) else self.url
        with _opening:
            return _open(shared, use, os.getpid())


_opening: Final = threading.Lock()


def anew() -> None:
    """Open everything once more: keys and addresses in the environment may be others now."""
    with _opening:
        _open.cache_clear()


def _shared(url: str) -> bool:
    """Whether one file system is good for all URLs of the protocol."""
    protocol = url.partition(":")[0].casefold()
    return "::" not in url and protocol in EXTRA and (protocol in WEB or "?" not in url)


@functools.lru_cache(maxsize=64)
def _open(url: str, use: str, process: int) -> Reader:  # noqa: ARG001 - none outlives a fork
    # `Tries` tries reads again; five times five tries would be a minute.
    return Reader(*system.opened(url, SourceError, patient=use != "read"))
