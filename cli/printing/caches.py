"""What `cache` prints."""

import dataclasses
import datetime
from collections.abc import Sequence

from ...extract.cache import Cleared, Contents
from ...features.errors import HeadstartError, count
from .text import lines, print_json, size, table


def contents(found: Contents, *, as_json: bool) -> None:
    """After `cache`."""
    held = {name: kind for name, kind in found.kinds.items() if kind.items}
    if as_json:
        kinds = {
            name: {
                "what": kind.what,
                "bytes": kind.bytes,
                "in_use": kind.in_use,
                "last_used": _moment(kind.last_used),
                "unused_since": _moment(kind.unused_since),
                "items": [
                    dataclasses.asdict(one) | {"last_used": _moment(one.last_used)}
                    for one in kind.items
                ],
            }
            for name, kind in found.kinds.items()
        }
        values = {"folder": found.folder, "bytes": found.bytes, "kinds": kinds}
        print_json(values | {"problems": found.problems})
    elif held:
        rows = [
            [
                f"{name}: {kind.what}",
                f"{len(kind.items):,}",
                size(kind.bytes),
                f"{kind.in_use:,}",
                _day(kind.last_used),
                _day(kind.unused_since),
            ]
            for name, kind in held.items()
        ]
        header = ["", "items", "size", "in use", "last used", "unused since"]
        lines(f"{found.folder}: {size(found.bytes)}", *table(header, rows))
        if any(kind.in_use < len(kind.items) for kind in held.values()):
            lines("  headstart cache --clear removes what is not in use")
    elif not found.problems:
        lines(f"{found.folder}: empty")
    _require_none(found.problems)


def cleared(done: Cleared, *, as_json: bool) -> None:
    """After `cache --clear`."""
    if as_json:
        print_json(dataclasses.asdict(done))
    elif done.removed or done.kept or not done.problems:
        lines(
            f"{done.folder}: {count(done.removed, 'item')} removed, {size(done.freed)} freed",
            *(f"  kept: {one}" for one in done.kept),
        )
    _require_none(done.problems)


def _require_none(problems: Sequence[str]) -> None:
    """End with the first problem as the error, where there is one."""
    if problems:
        more = len(problems) - 1
        others = f" (and {count(more, 'more problem')}; --json lists them)" if more else ""
        raise HeadstartError(f"{problems[0]}{others}")


def _day(moment: float | None) -> str:
    return "" if moment is None else f"{datetime.datetime.fromtimestamp(moment):%Y-%m-%d}"


def _moment(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="seconds")
