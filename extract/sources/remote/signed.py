"""Signed addresses of objects on S3, which any HTTP client reads; made in 0.05 ms.

s3fs takes 1.2 ms of a core for a request (of which HTTP itself is 0.1), so that no number of them
at a time is more than 800 a second; to have it sign an address takes 0.5 ms, as it finds out anew
for each what is the same for all in a bucket. So it signs one, and if the same is made here from
the same credentials, to the letter, the others are. If not (a rare endpoint, or kind of signature),
it goes on signing them itself.
"""

import asyncio
import dataclasses
import functools
import hashlib
import hmac
import re
import time
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

_LASTS: Final = 3600  # seconds, of an address
_AS_LONG: Final = 600
"""Seconds for which the others are made by one: credentials change, too."""

_SIGNATURE: Final = "&X-Amz-Signature="


@dataclasses.dataclass(frozen=True)
class _Pattern:
    """What the addresses of a bucket have in common."""

    before: str
    """Scheme, host and whatever stands before the key."""
    query: str
    """Without the signature; empty for what is open to everybody."""
    secret: str
    until: float

    def address(self, key: str) -> str:
        """The address of an object; signature version 4, in the query."""
        # https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
        whole = self.before + quote(key, safe="/~")
        if not self.query:
            return whole
        date, scope, key_of_day, ordered = self._common
        _, host, path, _, _ = urlsplit(whole)
        canonical = f"GET\n{path}\n{ordered}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}"
        signature = hmac.digest(key_of_day, text.encode(), "sha256").hex()
        return f"{whole}?{self.query}{_SIGNATURE}{signature}"

    @functools.cached_property
    def _common(self) -> tuple[str, str, bytes, str]:
        said = dict(part.split("=", 1) for part in self.query.split("&"))
        scope = unquote(said["X-Amz-Credential"]).partition("/")[2]
        key = f"AWS4{self.secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return said["X-Amz-Date"], scope, key, "&".join(sorted(self.query.split("&")))


class Addresses:
    """Those of one file system of s3fs."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self._patterns: dict[str, _Pattern | None] = {}
        self._learning: dict[str, asyncio.Lock] = {}

    async def of(self, path: str) -> str:
        """An address of an object, which is good for an hour less ten minutes."""
        bucket, _, key = path.partition("/")
        if not key or "versionId=" in key or not re.match(r"[a-z0-9][a-z0-9.-]+\Z", bucket):
            return str(await self._fs._url(path, expires=_LASTS))
        pattern = self._patterns.get(bucket)
        if bucket not in self._patterns or (pattern and pattern.until < time.monotonic()):
            async with self._learning.setdefault(bucket, asyncio.Lock()):
                pattern = self._patterns.get(bucket)
                if bucket not in self._patterns or (pattern and pattern.until < time.monotonic()):
                    pattern = self._patterns[bucket] = await self._learnt(path, key)
        if pattern is None:
            return str(await self._fs._url(path, expires=_LASTS))
        return pattern.address(key)

    async def _learnt(self, path: str, key: str) -> _Pattern | None:
        """What an address of s3fs's own has in common with all others, if it is understood."""
        signed = str(await self._fs._url(path, expires=_LASTS))
        where, _, query = signed.partition("?")
        quoted = quote(key, safe="/~")
        if not where.endswith("/" + quoted):
            return None
        until = time.monotonic() + _AS_LONG
        for secret in await self._secrets() if query else [""]:
            pattern = _Pattern(
                where.removesuffix(quoted), query.partition(_SIGNATURE)[0], secret, until
            )
            try:
                if pattern.address(key) == signed:
                    return pattern
            except (KeyError, ValueError):  # another kind of signature
                pass
        return None

    async def _secrets(self) -> list[str]:
        found = [getattr(self._fs, "secret", None)]
        session = getattr(self._fs, "session", None)
        if session is not None:
            credentials = await session.get_credentials()
            if credentials is not None:
                found.append((await credentials.get_frozen_credentials()).secret_key)
        return [str(one) for one in found if one]
