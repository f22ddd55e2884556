"""URLs: which sources are some, what they are shown as, and which libraries open them."""

import os
import re
from typing import Final

S3: Final = ("s3", "s3a")
WEB: Final = ("http", "https")
"""Protocols without listings but for pages of links, and without sizes on them."""

EXTRA: Final = (*S3, "gs", "gcs", *WEB)
"""Protocols whose libraries the extra installs."""

URL: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+::)*([A-Za-z][A-Za-z0-9+.-]+)://")
"""With its last protocol, as URLs are chained: ``zip://::s3://bucket/a.zip``."""

_LOCAL: Final = ("file", "local")
_SQUASHED: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/[^/]")
_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://[^/]")

_SECRET: Final = re.compile(
    r"(?i)[?&][^=&]*(sig|token|key|credential|password|passwd|secret|auth|expires)[^=&]*="
)


def is_remote(name: str) -> bool:
    """Whether a source is a URL, of this machine's own files excepted (``file://``)."""
    found = URL.match(name)
    return found is not None and found[1].casefold() not in _LOCAL and not os.path.lexists(name)


def is_squashed(name: str | os.PathLike[str]) -> bool:
    """Whether a path was a URL before it became a Path: ``s3:/bucket/pets.h5``."""
    found = None if isinstance(name, str) else _SQUASHED.match(os.fsdecode(name))
    return found is not None and not os.path.lexists(f"{found[1]}:")


def is_address(cell: str) -> bool:
    """Whether a cell of a list is a URL, of a kind that may lie anywhere."""
    found = _ADDRESS.match(cell.strip())
    return found is not None and found[1].casefold() in EXTRA


def public(url: str) -> str:
    """A URL without passwords and signatures, which are nobody else's."""
    url = re.sub(r"(?<=://)[^/@:]*:[^/@]*@|(?<=http://)[^/@]*@|(?<=https://)[^/@]*@", "", url)
    address, mark, query = url.partition("?")
    return address if mark and _SECRET.search(f"?{query}") else url
