"""Names of anybody's -> text of a page."""

from ...features.errors import encodable


def cut(text: str, most: int = 40) -> str:
    """The text as one line that can be written anywhere; of a long one both ends.

    Names of files differ at their ends more often than in their beginnings.
    """
    text = encodable(text)
    if len(text) <= most:
        return text
    tail = 2 * most // 3
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"
