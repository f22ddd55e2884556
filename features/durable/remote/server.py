"""What is asked of a server about one file, and a folder beside it: in the words of our errors."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from ...errors import FeatureFileError, HeadstartError
from . import failures, system
from .url import EXTRA, S3, URL, WEB, public

_T = TypeVar("_T")

_AT_A_TIME: Final = 16
_NO_FOLDERS: Final = (*EXTRA, "az", "abfs", "abfss", "adl")
"""Protocols of stores in which a folder is but a part of a name."""


UNTOLD: Final = -1


@dataclasses.dataclass(frozen=True)
class Told:
    """What a server says of a file."""

    size: int
    """`UNTOLD` where it does not say."""
    stamp: int
    """See `system.stamp_of`; 0 if nothing tells when it changes."""
    etag: str = ""
    """As the server compares it, where it has any."""


@dataclasses.dataclass(frozen=True)
class Server:
    """Where a file lies that has this URL; the file system is opened when it is first asked."""

    url: str

    @staticmethod
    def anew(url: str) -> "Server":
        """One that a user names: opened once more if keys or addresses may be others now.

        Raises
        ------
        FeatureFileError
            If the protocol is not known, or it is no file by its name.
        """
        if url.endswith("/"):
            raise FeatureFileError(f"{public(url)}: is a folder; name a file in it")
        url = URL.sub(lambda found: found[0].lower(), url, count=1)
        system.require_known(url, FeatureFileError)
        protocol, _, place = url.partition("://")
        if protocol in EXTRA and not place.partition("/")[0]:
            raise FeatureFileError(
                f"{public(url)}: names no bucket; a file in one is {protocol}://bucket/pets.h5"
            )
        global _environment
        if (now := _asked_how()) != _environment:
            _opened.cache_clear()
            _environment = now
        return Server(url)

    @property
    def name(self) -> str:
        """The URL as it is shown."""
        return public(self.url)

    @property
    def fs(self) -> Any:
        """The file system."""
        return _opened(self.url, os.getpid())[0]

    @property
    def key(self) -> str:
        """What the file system calls the file."""
        return _opened(self.url, os.getpid())[1]

    @property
    def protocol(self) -> str:
        """What stands before ``://``."""
        return self.url.partition("://")[0]

    def told(self) -> Told | None:
        """What it says of the file now; None if that is not there."""

        def info() -> Mapping[str, Any]:
            self.fs.invalidate_cache()
            found: Mapping[str, Any] = self.fs.info(self.key)
            return found

        with contextlib.suppress(FileNotFoundError):
            said = self.ask(info)
            if said.get("type") == "directory":
                raise FeatureFileError(f"{self.name}: is a folder; name a file in it")
            etag, size = str(said.get("ETag") or ""), said.get("size")
            return Told(UNTOLD if size is None else int(size), system.stamp_of(said), etag)
        return None

    def fetch(self, path: Path) -> None:
        """Write the file, as it is now, under this name."""
        self.ask(lambda: self.fs.get_file(self.key, str(path)))

    def names(self, folder: str) -> list[str]:
        """Those of the files in a folder beside and below it, as seen from there."""

        def find() -> list[str]:
            self.fs.invalidate_cache()
            return list(self.fs.find(self.key + folder))

        with contextlib.suppress(FileNotFoundError):
            here = f"{self.key.rpartition('/')[2]}{folder}/"
            return [name.rpartition(here)[2] for name in self.ask(find)]
        return []

    def read(self, beside: str) -> bytes | None:
        """The bytes of a file beside, by what is to be added; None if it is not there."""
        key = self.key + beside

        def whole() -> bytes:
            # From 0: of a whole file s3fs asks for the size first, or looks it up in the listing
            # that it made last, where it does not find what came later.
            try:
                return bytes(self.fs.cat_file(key, start=0))
            except Exception as error:
                if failures.status_of(error) == 416:  # it is empty
                    return b""
                raise

        with contextlib.suppress(FileNotFoundError):
            return self.ask(whole)
        return None

    def remove(self, beside: str) -> None:
        """Delete a file beside, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.ask(lambda: self.fs.rm_file(self.key + beside))

    def require_place(self, folder: str) -> None:
        """See that there is a bucket; where there are folders, make one beside the file."""
        fs, key = self.fs, self.key
        if self.protocol not in _NO_FOLDERS:
            self.ask(lambda: fs.makedirs(key + folder, exist_ok=True))
        if self.protocol in S3:
            bucket = key.partition("/")[0]
            try:
                failures.attempted(lambda: fs.call_s3("head_bucket", Bucket=bucket))
            except Exception as error:  # of anybody's library
                if failures.status_of(error) != 403:  # another right than that to write in it
                    raise self.cannot(error) from error

    def leave(self, folder: str) -> None:
        """Remove a folder beside, and those in it, if they are some and nothing is in them."""
        if self.protocol not in _NO_FOLDERS:
            with contextlib.suppress(Exception):
                self.fs.invalidate_cache()
                for one in self.fs.ls(self.key + folder, detail=True):
                    if one["type"] == "directory":
                        self.fs.rmdir(one["name"])
                self.fs.rmdir(self.key + folder)

    def each(self, call: Callable[[str], _T], names: Iterable[str]) -> list[_T]:
        """Do something for each name, many at a time where the file system allows."""
        executor = self.threads()
        try:
            return list(executor.map(call, names))
        finally:  # what is waiting is dropped where one fails, or at Ctrl-C
            executor.shutdown(cancel_futures=True)

    def threads(self) -> ThreadPoolExecutor:
        """As many as may ask the file system side by side."""
        at_a_time = _AT_A_TIME if self.fs.async_impl else 1
        return ThreadPoolExecutor(at_a_time, thread_name_prefix="remote")

    def ask(self, call: Callable[[], _T], tries: int = failures.TRIES) -> _T:
        """Call the file system, a few times if that may help.

        Raises
        ------
        FileNotFoundError
            If what it is about is not there.
        FeatureFileError
            If it fails in any other way; in one line.
        """
        try:
            return failures.attempted(call, tries)
        except (HeadstartError, MemoryError):
            raise
        except Exception as error:  # of anybody's library
            # Of the web, "not found" is said whatever has kept it from finding out.
            gone = isinstance(error, FileNotFoundError) and self.protocol not in WEB
            if gone or failures.status_of(error) == 404:
                raise FileNotFoundError(f"{self.name}: not there") from error
            raise self.cannot(error) from error

    def cannot(self, error: BaseException) -> FeatureFileError:
        """Why it cannot be used, in one line; the next time it is opened once more."""
        _opened.cache_clear()
        return FeatureFileError(f"{self.name}: {failures.why(error, 'cannot be used')}")


_environment = ""


def _asked_how() -> str:
    """What says how file systems are opened, but for files of the user's."""
    from fsspec import config

    names = (name for name in sorted(os.environ) if not name.startswith("HEADSTART"))
    return repr((config.conf, [(name, os.environ[name]) for name in names]))


@functools.lru_cache(maxsize=8)
def _opened(url: str, process: int) -> tuple[Any, str]:  # noqa: ARG001 - none outlives a fork
    fs, key, _ = system.opened(url, FeatureFileError, patient=False)  # `ask` tries again
    return fs, key
