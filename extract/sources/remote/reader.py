"""A file system that is asked many things at a time, each a few times if that may help."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar

from ....features.durable.remote.failures import passing
from ....features.durable.remote.system import AT_A_TIME, web_options
from ....features.durable.remote.url import S3
from . import retry
from .signed import Addresses

_T = TypeVar("_T")

_SAFE: Final = ("memory", "hf")
"""File systems that are not asynchronous, and may be asked by several threads at a time."""

_PLAIN_READS: Final = 8
"""How many reads have to work only without a signed address until none is tried any more."""


def attempted(call: Callable[[], _T]) -> _T:
    """Call something, a few times if that may help; see `retry.Tries`."""
    tries = retry.Tries()
    while True:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - of anybody's library
            time.sleep(tries.wait(error))


class Reader:
    """An opened file system."""

    def __init__(self, fs: Any, root: str, protocols: tuple[str, ...]) -> None:
        self.fs = fs
        self.root = root
        self.asynchronous = bool(fs.async_impl)
        safe = self.asynchronous or set(protocols) <= {*_SAFE}
        self._lock = None if safe else threading.Lock()
        self._signed = protocols[0] in S3 and _may_sign(fs)
        self._addresses = Addresses(fs)
        self._worked = self._in_vain = self._gone = 0
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

    async def gives_parts(self, path: str) -> bool:
        """Whether a server of the web sends a part of a file, or the whole; as `tried`.

        Of the whole nothing is taken: it may be as large as any archive.
        """

        async def once(failed: int) -> bool:  # noqa: ARG001
            options = dict(self.fs.kwargs)
            headers = {**options.pop("headers", {}), "Range": "bytes=0-0"}
            session = await self.fs.set_session()
            address = self.fs.encode_url(path)
            async with session.get(address, headers=headers, **options) as answer:
                self.fs._raise_not_found_for_status(answer, path)
                return bool(answer.status == HTTPStatus.PARTIAL_CONTENT)

        return await self._again(once)

    async def _again(self, call: Callable[[int], Coroutine[Any, Any, _T]]) -> _T:
        tries = retry.Tries()
        if self._room is None:
            self._room = asyncio.Semaphore(AT_A_TIME)
        while True:
            try:
                async with self._room:
                    found = await call(tries.failed)
            except Exception as error:  # noqa: BLE001 - of anybody's library
                # What is gone for so many, one after the other, is gone for the rest, too.
                if self._gone >= AT_A_TIME:
                    tries.give_up()
                try:
                    wait = tries.wait(error)
                except retry.Gone:
                    self._gone += 1
                    raise
            else:
                self._gone = 0
                return found
            await asyncio.sleep(wait)

    async def _once(self, path: str, start: int | None, end: int | None, *, signed: bool) -> bytes:
        # See `signed`. What does not work so is read by s3fs itself, and only what it says counts.
        if signed and self._signed:
            try:
                address = await self._addresses.of(path)
                data = bytes(await self._opener()._cat_file(address, start=start, end=end))
            except Exception as error:  # s3fs will say it better
                if passing(error):
                    raise
            else:
                self._worked += 1
                return data
        data = bytes(await self.fs._cat_file(path, start=start, end=end))
        self._in_vain += self._signed
        self._signed = self._signed and (self._worked > 0 or self._in_vain < _PLAIN_READS)
        return data

    def _opener(self) -> Any:
        if self._web is None:
            from fsspec.implementations.http import HTTPFileSystem

            options = web_options()
            options["client_kwargs"]["auto_decompress"] = False  # bytes as they are stored
            self._web = HTTPFileSystem(encoded=True, skip_instance_cache=True, **options)
        return self._web


def _may_sign(fs: Any) -> bool:
    """Whether signed addresses may be read: not what the reader pays for, or has the key of."""
    plain = not (getattr(fs, "req_kw", None) or getattr(fs, "version_aware", False))
    return plain and not getattr(fs, "s3_additional_kwargs", None) and hasattr(fs, "_url")
