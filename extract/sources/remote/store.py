"""A file system that fsspec opens, by its URL, in whatever process and thread."""

import asyncio
import dataclasses
import functools
import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from ....features.errors import MissingExtra, SourceError, install_command
from ..image import Unreadable
from . import retry
from .reader import AT_A_TIME, Reader, attempted, web_options
from .url import EXTRA, S3, WEB, public

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
    shown = public(url)
    try:
        import fsspec.config
        import fsspec.core
    except ImportError as error:
        raise MissingExtra(
            f"{shown}: fsspec is not installed, which opens it; {install_command('remote')}"
        ) from error
    # Those of libraries that nobody configured would go to standard error, over the progress bar.
    for name in ("s3fs", "gcsfs", "aiobotocore", "botocore", "asyncio", "fsspec"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    protocols = tuple(re.findall(r"(?:^|::)([A-Za-z][A-Za-z0-9+.-]*)(?=://|::|$)", url))
    options: dict[str, dict[str, Any]] = {}
    for protocol in protocols:
        given = fsspec.config.conf.get(protocol, {})
        if protocol in S3:
            own: dict[str, Any] = {"max_pool_connections": AT_A_TIME}
            if use == "read":  # `Tries` tries again; five times five tries would be a minute
                own["retries"] = {"max_attempts": 0}
            if not given.get("anon"):
                own["signature_version"] = "s3v4"  # the older one opens no encrypted objects
            options[protocol] = {"config_kwargs": own | given.get("config_kwargs", {})}
        elif protocol in WEB:
            options[protocol] = {**_given_web(), **given}
    try:
        fs, root = fsspec.core.url_to_fs(url, skip_instance_cache=True, **options)
    except ImportError as error:
        raise _missing(shown, protocols[0] if protocols else "", error) from error
    except (ValueError, TypeError, OSError) as error:
        raise SourceError(f"{shown}: cannot be opened: {retry.told(error)}") from error
    if set(protocols) & {*S3}:
        fs.retries = 1  # of listings botocore tries each page five times, for up to 15 s
    return Reader(fs, root, protocols)


def _given_web() -> dict[str, Any]:
    try:
        return web_options()
    except ImportError:
        return {}  # url_to_fs says so


def _missing(shown: str, protocol: str, error: ImportError) -> MissingExtra:
    if protocol in EXTRA:
        return MissingExtra(
            f"{shown}: the library that opens {protocol}:// is not installed; "
            f"{install_command('remote')}"
        )
    return MissingExtra(f"{shown}: {retry.told(error)}; python3 -m pip installs it")
