"""A file system that fsspec opens, by its URL, in whatever process and thread."""

import asyncio
import dataclasses
import functools
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar
from urllib.request import getproxies

from ....features.errors import MissingExtra, SourceError, install_command
from ..image import Unreadable
from . import retry
from .signed import Addresses

_T = TypeVar("_T")

AT_A_TIME: Final = 64
"""Requests that are under way together, of one file system. With 20 ms to the server that is 3,200
images a second, which no processor decodes; s3fs itself has 10."""

_S3: Final = ("s3", "s3a")
_WEB: Final = ("http", "https")
EXTRA: Final = (*_S3, "gs", "gcs", *_WEB)
"""Protocols whose libraries the extra installs."""

_SAFE: Final = ("memory", "hf")
"""File systems that are not asynchronous, and may be asked by several threads at a time."""

_PLAIN_READS: Final = 8
"""How many reads have to work only without a signed address until none is tried any more."""

_ASKED: Final = 1000
"""Files of which a server is asked what it says, before the answers are waited for."""

_CONNECT_IN, _ANSWER_IN = 10, 30  # seconds; s3fs has 5 and 15 of its own
_SECRET: Final = re.compile(
    r"(?i)[?&][^=&]*(sig|token|key|credential|password|passwd|secret|auth|expires)[^=&]*="
)


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
        return _opened(self.url, "list", os.getpid()).root

    @property
    def listing(self) -> Any:
        """The file system, with its own ways of trying again: a listing has many pages."""
        return _opened(self.url, "list", os.getpid()).fs

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

    def _reader(self) -> "_Reader":
        return _opened(self.url, "read", os.getpid())


def attempted(call: Callable[[], _T]) -> _T:
    """Call something, a few times if that may help; see `retry.Tries`."""
    tries = retry.Tries()
    while True:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - of anybody's library
            time.sleep(tries.wait(error))


def public(url: str) -> str:
    """A URL without passwords and signatures, which are nobody else's."""
    url = re.sub(r"://[^/@:]*:[^/@]*@", "://", url)
    address, mark, query = url.partition("?")
    return address if mark and _SECRET.search(f"?{query}") else url


class _Reader:
    """An opened file system."""

    def __init__(self, fs: Any, root: str, protocols: tuple[str, ...]) -> None:
        self.fs = fs
        self.root = root
        self.asynchronous = bool(fs.async_impl)
        safe = self.asynchronous or set(protocols) <= {*_SAFE}
        self._lock = None if safe else threading.Lock()
        self._signed = protocols[0] in _S3 and _may_sign(fs)
        self._addresses = Addresses(fs)
        self._worked = self._in_vain = 0
        self._room: asyncio.Semaphore | None = None
        self._web: Any = None

    def alone(self, call: Callable[[], _T]) -> _T:
        """Call the file system, one thread at a time if it takes no more."""
        if self._lock is None:
            return call()
        with self._lock:
            return call()

    def cat(self, path: str, start: int | None, end: int | None) -> bytes:
        """Read once, and wait for it."""
        return self.alone(lambda: bytes(self.fs.cat_file(path, start=start, end=end)))

    async def tried(self, path: str, start: int | None, end: int | None) -> bytes:
        """Read, a few times if that may help; see `retry.Tries`."""
        return await self._again(lambda failed: self._once(path, start, end, signed=not failed))

    async def told(self, path: str) -> Mapping[str, Any]:
        """What the server says of a file; as `tried`."""

        async def once(failed: int) -> Mapping[str, Any]:  # noqa: ARG001
            found: Mapping[str, Any] = await self.fs._info(path)
            return found

        return await self._again(once)

    async def _again(self, call: Callable[[int], Coroutine[Any, Any, _T]]) -> _T:
        tries = retry.Tries()
        if self._room is None:
            self._room = asyncio.Semaphore(AT_A_TIME)
        while True:
            try:
                async with self._room:
                    return await call(tries.failed)
            except Exception as error:  # noqa: BLE001 - of anybody's library
                wait = tries.wait(error)
            await asyncio.sleep(wait)

    async def _once(self, path: str, start: int | None, end: int | None, *, signed: bool) -> bytes:
        if not (signed and self._signed):
            return bytes(await self.fs._cat_file(path, start=start, end=end))
        # See `signed`. What does not work so is read by s3fs itself, and only what it says counts.
        try:
            address = await self._addresses.of(path)
            data = bytes(await self._opener()._cat_file(address, start=start, end=end))
        except Exception as error:  # s3fs will say it better
            if retry.passing(error):
                raise
        else:
            self._worked += 1
            return data
        data = bytes(await self.fs._cat_file(path, start=start, end=end))
        self._in_vain += 1
        self._signed = self._worked > 0 or self._in_vain < _PLAIN_READS
        return data

    def _opener(self) -> Any:
        if self._web is None:
            from fsspec.implementations.http import HTTPFileSystem

            options = _web_options()
            options["client_kwargs"]["auto_decompress"] = False  # bytes as they are stored
            self._web = HTTPFileSystem(encoded=True, skip_instance_cache=True, **options)
        return self._web


def _may_sign(fs: Any) -> bool:
    """Whether signed addresses may be read: not what the reader pays for, or has the key of."""
    plain = not (getattr(fs, "req_kw", None) or getattr(fs, "version_aware", False))
    return plain and not getattr(fs, "s3_additional_kwargs", None) and hasattr(fs, "_url")


def _web_options() -> dict[str, Any]:
    import aiohttp

    limit = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_IN, sock_read=_ANSWER_IN)
    return {
        "client_kwargs": {
            "timeout": limit,
            # The proxies of the environment, as botocore and requests; aiohttp looks for them in
            # another thread, twice a request.
            "trust_env": not {"http", "https", "all"}.isdisjoint(getproxies()),
            "headers": {"Accept-Encoding": "identity"},
        },
        "simple_links": False,
    }


_opening: Final = threading.Lock()


def anew() -> None:
    """Open everything once more: keys and addresses in the environment may be others now."""
    with _opening:
        _open.cache_clear()


def _opened(url: str, use: str, process: int) -> _Reader:
    # fsspec keeps an instance for each thread; one client can be asked by all of them, and to make
    # one takes 0.3 s.
    with _opening:
        return _open(url, use, process)


@functools.lru_cache(maxsize=64)
def _open(url: str, use: str, process: int) -> _Reader:  # noqa: ARG001 - none outlives a fork
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
        if protocol in _S3:
            own: dict[str, Any] = {"max_pool_connections": AT_A_TIME}
            if use == "read":  # `Tries` tries again; five times five tries would be a minute
                own["retries"] = {"max_attempts": 0}
            if not given.get("anon"):
                own["signature_version"] = "s3v4"  # the older one opens no encrypted objects
            options[protocol] = {"config_kwargs": own | given.get("config_kwargs", {})}
        elif protocol in _WEB:
            options[protocol] = {**_given_web(), **given}
    try:
        fs, root = fsspec.core.url_to_fs(url, skip_instance_cache=True, **options)
    except ImportError as error:
        raise _missing(shown, protocols[0] if protocols else "", error) from error
    except (ValueError, TypeError, OSError) as error:
        raise SourceError(f"{shown}: cannot be opened: {retry.told(error)}") from error
    if use == "read" and set(protocols) & {*_S3}:
        fs.retries = 1
    return _Reader(fs, root, protocols)


def _given_web() -> dict[str, Any]:
    try:
        return _web_options()
    except ImportError:
        return {}  # url_to_fs says so


def _missing(shown: str, protocol: str, error: ImportError) -> MissingExtra:
    if protocol in EXTRA:
        return MissingExtra(
            f"{shown}: the library that opens {protocol}:// is not installed; "
            f"{install_command('remote')}"
        )
    return MissingExtra(f"{shown}: {retry.told(error)}, with python3 -m pip")
