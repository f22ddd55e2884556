"""File systems that fsspec opens, by the URL of a file or folder in them."""

import hashlib
import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from ...errors import HeadstartError, MissingExtra, install_command
from . import failures
from .url import EXTRA, S3, URL, WEB, public

AT_A_TIME: Final = 64
"""Requests that are under way together, of one file system. With 20 ms to the server that is 3,200
images a second, which no processor decodes; s3fs itself has 10."""


_CONNECT_IN, _ANSWER_IN = 10, 30  # seconds; s3fs has 5 and 15 of its own


_CONTENT: Final = (
    "etag generation versionid md5hash contentmd5 contenthash digest crc32c sha blobid oid checksum"
).split()
"""What file systems call that which changes with the content, without capitals and `_` and `-`."""

_TIMES: Final = "lastmodified mtime updated modified modify created ctime".split()


def opened(
    url: str, refused: type[HeadstartError], *, patient: bool
) -> tuple[Any, str, tuple[str, ...]]:
    """Open the file system of a URL anew: it, what it calls the place, and the protocols.

    One that is `patient` has its own ways of trying again, the other none (on S3).

    Raises
    ------
    MissingExtra
        If the library that opens it is not installed.
    HeadstartError
        Of the kind `refused`, if it cannot be opened.
    """
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
            if not patient:
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
        raise refused(f"{shown}: cannot be opened: {failures.told(error)}") from error
    if set(protocols) & {*S3}:
        fs.retries = 1  # of listings botocore tries each page five times, for up to 15 s
    return fs, str(root), protocols


def require_known(name: str, refused: type[HeadstartError]) -> None:
    """Refuse a URL of a protocol that no library is known for."""
    try:
        from fsspec.registry import known_implementations, registry
    except ImportError as error:
        raise MissingExtra(
            f"{public(name)}: fsspec is not installed, which opens it; {install_command('remote')}"
        ) from error
    found = URL.match(name)
    protocol = found[1].casefold() if found else ""
    if protocol not in known_implementations and protocol not in registry:
        raise refused(
            f"{public(name)}: {protocol}:// is no protocol that is known; such are s3://, gs://, "
            f"az:// and https://"
        )


def stamp_of(info: Mapping[str, Any]) -> int:
    """What changes with a file, in 64 bits; 0 if the server says neither etag nor time."""
    plain = {name.lower().replace("_", "").replace("-", ""): info[name] for name in info}
    for names in (_CONTENT, _TIMES):
        said = [(name, _text(plain[name])) for name in names if plain.get(name)]
        if said:
            digest = hashlib.sha256(repr((info.get("size"), said)).encode()).digest()
            return int.from_bytes(digest[:8], "little") or 1
    return 0


def _text(value: Any) -> str:
    # A time is told in the time zone of whoever asks.
    return str(value.timestamp()) if isinstance(value, datetime) else str(value)


def web_options() -> dict[str, Any]:
    """How the file system of the web is opened."""
    from urllib.request import getproxies

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
    return MissingExtra(f"{shown}: {failures.told(error)}; python3 -m pip installs it")
