"""Writing to a server: only where nothing is, or where what is there is what one knows of.

Object stores decide that themselves, so that of two who write together one is told. Elsewhere it
is asked just before, which is as good as can be had there.
"""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar

from ...errors import FeatureFileError
from . import failures
from .server import Server, Told
from .url import S3, WEB, public

_T = TypeVar("_T")

_PART: Final = 64 << 20
_MOST_PARTS: Final = 10_000  # of S3
_AT_ONCE: Final = 2 * _PART
"""A file of S3 up to this is written by one request."""


def target(url: str) -> Server:
    """Where a file of a URL is going to be written, as a user names it.

    Raises
    ------
    FeatureFileError
        If none can be.
    """
    if "::" in url or "?" in url or url.partition("://")[0].casefold() in WEB:
        raise FeatureFileError(
            f"{public(url)}: nothing can be written there; name a file in a bucket, such as "
            f"s3://bucket/pets.h5, or on this machine"
        )
    return Server.anew(url)


class _Taken(Exception):
    """Something else is there already."""


def create(server: Server, beside: str, data: bytes) -> bool:
    """Write a small file where none is; False if one is there, which stays as it is."""
    fs, key = server.fs, server.key + beside

    def write() -> bool:
        try:
            _decided(lambda: fs.pipe_file(key, data, mode="create"))
        except _Taken:
            return False
        except Exception as error:
            if not _knows_no_conditions(error):
                raise
            if fs.exists(key):
                return False
            fs.pipe_file(key, data)
        return True

    return _to_bucket(server, write)


def overwrite(server: Server, beside: str, data: bytes) -> None:
    """Write a small file, whatever is there."""
    _to_bucket(server, lambda: server.fs.pipe_file(server.key + beside, data))


def require_rights(server: Server, folder: str) -> None:
    """See that files can be written in a folder beside, by what leaves none.

    Raises
    ------
    FeatureFileError
        If they cannot, in one line.
    """
    name = f"{folder}/rights.try"
    if server.protocol in S3:
        bucket, _, key = (server.key + name).partition("/")
        place = {"Bucket": bucket, "Key": key, "Body": b"", "IfMatch": f'"{"0" * 32}"'}
        try:
            failures.attempted(lambda: server.fs.call_s3("put_object", **place))
        except Exception as error:  # of anybody's library
            # Rights come before conditions, and there is nothing there that could be matched.
            there = HTTPStatus.NOT_FOUND, HTTPStatus.PRECONDITION_FAILED
            if failures.status_of(error) not in there and not _knows_no_conditions(error):
                raise server.cannot(error) from error
            return
    else:
        create(server, name, b"")
    server.remove(name)


def replace(server: Server, path: Path, there: Told | None) -> tuple[bool, str]:
    """Write a file in the place of what is `there`.

    Returns
    -------
    (bool, str)
        False if it is something else that is there, which stays as it is; and the etag that the
        new file got, if the server tells.
    """

    def write() -> tuple[bool, str]:
        with contextlib.suppress(_Taken):
            return True, _replaced(server, path, there)
        return False, ""

    return _to_bucket(server, write, tries=1)  # each request is tried again by itself


def _replaced(server: Server, path: Path, there: Told | None) -> str:
    # Before everything is sent; and there are servers that take conditions and look at none.
    if server.told() != there:
        raise _Taken
    if server.protocol in S3 and (there is None or there.etag):
        condition = {"IfNoneMatch": "*"} if there is None else {"IfMatch": there.etag}
        try:
            return str(_decided(lambda: _to_s3(server, path, condition)).get("ETag") or "")
        except Exception as error:
            gone = there is not None or os.path.getsize(path) > _AT_ONCE
            if gone and failures.status_of(error) == HTTPStatus.NOT_FOUND:
                raise _Taken from error  # or the answer was lost that the last part is there
            if not _knows_no_conditions(error):
                raise
            if server.told() != there:
                raise _Taken from error
    mode = {"mode": "create"} if there is None else {}
    put = functools.partial(server.fs.put_file, str(path), server.key, **mode)
    _decided(lambda: failures.attempted(put))
    return ""


def _to_bucket(server: Server, write: Callable[[], _T], tries: int = failures.TRIES) -> _T:
    try:
        return server.ask(write, tries)
    except FileNotFoundError as error:
        raise server.cannot(error) from error


def _decided(call: Callable[[], _T]) -> _T:
    """What a conditional request gives; of two at the same moment one has to ask again."""
    failed = 0
    while True:
        try:
            return call()
        except Exception as error:  # of anybody's library
            status = failures.status_of(error)
            if isinstance(error, FileExistsError) or status == HTTPStatus.PRECONDITION_FAILED:
                raise _Taken from error
            failed += 1
            if status != HTTPStatus.CONFLICT or failed == failures.TRIES:
                raise
        time.sleep(failures.pause(failed))


def _knows_no_conditions(error: BaseException) -> bool:
    unknown = isinstance(error, NotImplementedError | TypeError)
    return unknown or failures.status_of(error) == HTTPStatus.NOT_IMPLEMENTED


def _to_s3(server: Server, path: Path, condition: Mapping[str, str]) -> Mapping[str, Any]:
    # s3fs passes the etag of what is there on for small files only.
    def call(*what: str, **how: Any) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = failures.attempted(lambda: server.fs.call_s3(*what, **how))
        return answer

    bucket, _, name = server.key.partition("/")
    place = {"Bucket": bucket, "Key": name}
    size = os.path.getsize(path)
    if size <= _AT_ONCE:
        answer = call("put_object", Body=path.read_bytes(), **place, **condition)
    else:
        place["UploadId"] = call("create_multipart_upload", **place)["UploadId"]
        try:
            parts: list[Mapping[str, Any]] = []
            length = max(_PART, -(-size // _MOST_PARTS))
            with path.open("rb") as file:
                while block := file.read(length):
                    number = len(parts) + 1
                    part = call("upload_part", Body=block, PartNumber=number, **place)
                    parts.append({"ETag": part["ETag"], "PartNumber": number})
            whole = {"Parts": parts}
            answer = call("complete_multipart_upload", MultipartUpload=whole, **place, **condition)
        except BaseException:
            with contextlib.suppress(Exception):  # parts that are left are paid for
                call("abort_multipart_upload", **place)
            raise
    server.fs.invalidate_cache()
    return answer
