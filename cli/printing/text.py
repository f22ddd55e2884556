"""Plain text for people, JSON for programs: the parts that all commands print with."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...features.errors import printable

MOST_CLASSES: Final = 30
"""Classes up to which each is named; --json has them all."""


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object; file names that are not text are escaped."""
    print(json.dumps(values, indent=2, default=str))


def lines(*texts: str) -> None:
    """Print each on a line of its own, whatever the names in it."""
    if texts:
        print(*map(printable, texts), sep="\n", flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: int = 2) -> list[str]:
    """Aligned columns: the first to the left, the others to the right."""
    cells = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        " " * indent
        + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in cells
    ]


def size(number: float) -> str:
    """Bytes as people read them: ``960 bytes``, ``1.5 kB``, ``84.0 MB``, ``5.0 GB``."""
    if number < 1000:
        return f"{number:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 999.95:
            return f"{number:.1f} {unit}"
    return f"{number / 1000:,.1f} TB"


def percent(share: float) -> str:
    """A share of one, as people read it."""
    return f"{100 * share:.1f}%"
