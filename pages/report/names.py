"""Names of anybody's -> text of a page, and words of a command."""

import os
import shlex
from typing import Final

from ...features.errors import encodable

_PLAIN: Final = frozenset(range(0x20, 0x7F)) - set(b"'\\")
"""Bytes that bash's ``$'...'`` takes as they are."""


def cut(text: str, most: int = 40) -> str:
    """The text as one line that can be written anywhere; of a long one both ends.

    Names of files differ at their ends more often than in their beginnings.
    """
    text = encodable(text)
    if len(text) <= most:
        return text
    tail = 2 * most // 3
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"


def quoted(word: str | os.PathLike[str]) -> str:
    """A word of a command, so that a shell takes it for what it is.

    Bytes that are no text, and what no page shows as it is, are spelled as bash understands it.
    """
    text = os.fspath(word)
    if text.startswith("-") and text != "-":  # a file, not an option
        text = f"./{text}"
    if encodable(text) == text:
        return shlex.quote(text)
    data = text.encode("utf-8", "surrogateescape" if _is_file(text) else "surrogatepass")
    return "$'" + "".join(chr(one) if one in _PLAIN else f"\\x{one:02x}" for one in data) + "'"


def _is_file(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
