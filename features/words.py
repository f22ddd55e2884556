"""Small helpers for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def first_line(error: BaseException | str) -> str:
    """The first line of what an error of another library says, without its final full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")


def nearest(name: str, choices: Iterable[str]) -> str:
    """The choice most like what was typed, whatever its case."""
    folded = {choice.casefold(): choice for choice in choices}
    return folded[difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0)[0]]
