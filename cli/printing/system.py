"""What `info --system` prints."""

import dataclasses

from ...extract.system import System
from ...features.errors import count
from .text import lines, print_json


def system(found: System, *, as_json: bool) -> None:
    """After `info --system`."""
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    arithmetic = f": {', '.join(found.arithmetic)}" if found.arithmetic else ""
    lines(
        f"headstart {found.headstart}, Python {found.python}, {found.system}",
        f"  processor: {found.processor}, {count(found.cores, 'core')}{arithmetic}",
        f"  memory: {found.memory / 1e9:.1f} GB",
        f"  engines (auto takes {found.auto or 'none of them'}):",
    )
    width = max(len(one.name) for one in found.engines)
    for one in found.engines:
        able = f"{', '.join(one.precisions)} on {', '.join(one.devices)}"
        lines(f"    {one.name.ljust(width)}  {able if one.usable else one.problem}")
    lines(
        f"  with: {', '.join(f'{name} {number}' for name, number in found.versions.items())}",
        "  caches, whose contents are made or downloaded again where they are missing:",
    )
    for kind, kept in found.caches.items():
        held = f"{count(kept.entries, 'item')}, {kept.bytes / 1e6:,.1f} MB"
        lines(f"    {kind}: {kept.folder} ({held if kept.entries else 'empty'})")
