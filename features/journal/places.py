"""Where units and graphs lie in the folder of units at a URL, and how they get there."""

import contextlib
import re
from pathlib import Path
from typing import Final

from ..durable.remote import puts
from ..durable.remote.server import Server
from ..errors import FeatureFileError
from ..provenance.graph import Graph
from . import graphs
from .units import ENDING

UNIT: Final = re.compile(r"[0-9a-f]{32}\.h5")
_PLACE: Final = re.compile(r"(?:([0-9]+)-of-([0-9]+)/)?[0-9a-f]{32}\.h5|[0-9a-f]{64}\.graph")
"""What is ours in the folder of units at a URL; each shard has a folder in it."""


def place(name: str, part: str = "") -> str:
    """Where a unit or graph lies in that folder which a run makes, or a shard of this `part`."""
    return f"{part}/{name}" if part and UNIT.fullmatch(name) else name


def listed(server: Server, part: str = "") -> dict[str, str]:
    """Units and graphs that concern a run, or a shard: where each lies, by its name."""
    number, _, of = part.partition("-of-")
    places = {}
    for one in server.names(ENDING):
        found = _PLACE.fullmatch(one)
        if found and (not of or found[2] != of or found[1] == number):
            places[one.rpartition("/")[2]] = one
    return places


def put(server: Server, there: str, path: Path, data: bytes) -> None:
    """Have a unit or graph at a place, once; `path` is what it is called here, or would be."""
    beside = f"{ENDING}/{there}"
    if not puts.create(server, beside, data):
        # The first to come did the same work, unless what it left is damaged.
        found = server.read(beside)
        if found is not None and not graphs.is_sound(path, found):
            puts.overwrite(server, beside, data)


def graph(server: Server, digest: str) -> Graph | None:
    """The graph of this digest that lies beside the units; None if no sound one does."""
    name = f"{digest}{graphs.ENDING}"
    data = server.read(f"{ENDING}/{name}") if _PLACE.fullmatch(name) else None
    with contextlib.suppress(FeatureFileError):
        return None if data is None else Graph.unpacked(data, digest)
    return None
