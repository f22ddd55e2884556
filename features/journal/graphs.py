"""The quantised backbone of an output file: kept beside its units until the file is sealed.

It is on the disk before the first vector that it made, so that a run which was killed goes on with
the same one, whatever images there are then.
"""

import contextlib
import re
from pathlib import Path
from typing import Final

from .. import durable
from ..errors import FeatureFileError, printable
from ..provenance import Made
from ..provenance.graph import Graph
from ..store import FeatureStore
from .units import Unit, folder_of

ENDING: Final = ".graph"


def keep(out: Path, graph: Graph) -> None:
    """Write a graph durably where a run on `out` finds it, unless it is there already."""
    path = _place(out, graph.digest)
    with contextlib.suppress(FeatureFileError):
        kept(path, graph.digest)
        return
    try:
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)  # damaged
        durable.publish(path, graph.packed())
    except OSError as error:
        raise durable.cannot_write(path.parent, error) from error


def find(out: Path, digest: str) -> Graph:
    """The graph of this digest that lies in the feature file `out`, or beside its units.

    Raises
    ------
    FeatureFileError
        If there is none, or it is damaged.
    """
    if not re.fullmatch("[0-9a-f]{64}", digest):  # it becomes the name of a file
        raise FeatureFileError(
            f"{out}: the digest of its quantised backbone is none: {printable(digest[:80])}; put a "
            f"sound copy in its place, or make it again with --fresh"
        )
    path, damaged = _place(out, digest), None
    if path.exists():
        try:
            return kept(path, digest)
        except FeatureFileError as error:
            damaged = error
    graph = FeatureStore(out).graph if out.exists() else None
    if graph is not None and graph.digest == digest:
        return graph
    if damaged is not None:
        raise damaged
    if not out.exists():
        raise FeatureFileError(
            f"{path}: the quantised backbone of this unfinished work is gone; put it back, or "
            f"delete {path.parent} and run the same command again"
        )
    has = "no quantised backbone" if graph is None else "another quantised backbone"
    raise FeatureFileError(
        f"{out}: holds {has}, where one with the SHA-256 {digest} is asked for; put the file back "
        f"that had it, or say where that is with --weights FILE.h5"
    )


def packed_for(out: Path, provenance: Made) -> bytes:
    """What a feature file of this provenance carries: its graph if it needs one."""
    digest = provenance.graph_digest
    return find(out, digest).packed() if digest else b""


def discard(out: Path) -> list[str]:
    """Delete the graphs beside the units of a file that is sealed; their names."""
    found = list(folder_of(out).glob(f"*{ENDING}"))
    for path in found:
        path.unlink(missing_ok=True)
    return [path.name for path in found]


def _place(out: Path, digest: str) -> Path:
    return folder_of(out) / f"{digest}{ENDING}"


def kept(path: Path, digest: str) -> Graph:
    """The graph that a file beside the units is, if it has this digest.

    Raises
    ------
    FeatureFileError
        If it has another, or cannot be read.
    """
    try:
        return Graph.unpacked(path.read_bytes(), digest)
    except OSError as error:
        raise FeatureFileError(f"{path}: cannot be read: {error.strerror}") from error
    except FeatureFileError as error:
        raise FeatureFileError(
            f"{path}: the quantised backbone of unfinished work is damaged: {error}; delete "
            f"{path.parent} and run the same command again"
        ) from error


def is_sound(path: Path, data: bytes) -> bool:
    """Whether these bytes are the graph, or the unit, that is called as `path` is."""
    with durable.folder_beside(path.parent) as folder:
        other = folder / path.name
        other.write_bytes(data)
        try:
            if path.suffix == ENDING:
                kept(other, path.stem)
            else:
                Unit(other)
        except FeatureFileError:
            return False
    return True
