"""Where the file of a run is to be: on this machine, or at a URL that fsspec can write to.

A run on a URL works as any other does, on a file of this machine: the mirror, in the cache. At the
start the mirror takes what is at the URL; each unit goes there when it is published, once, and the
sealed file when it is verified. So another machine goes on with what a killed run has left, and
two that work together have each other's units. FORMAT.md says what lies at the URL.
"""

import contextlib
import dataclasses
import logging
import os
import platform
import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from .. import durable
from ..durable.remote import copies, puts
from ..durable.remote.server import Server, Told
from ..durable.remote.url import is_remote, is_squashed, public
from ..errors import FeatureFileError, called
from ..records import Key
from ..store import FeatureStore
from . import graphs, places, units
from .units import ENDING, Unit

_log = logging.getLogger("headstart")

THERE: Final = ".there"
"""File of a mirror: names of the units and graphs that have been seen at the URL."""


@dataclasses.dataclass(frozen=True)
class Output:
    """A file that a run makes; it pickles small, and is of use on any machine."""

    name: str
    """A path, or a URL."""
    far: bool = False
    """Whether it is a URL."""
    part: str = ""
    """Of a shard at a URL: its folder among the units, as ``3-of-8``; it has none of the others."""
    mirror: str = ""
    """Of a URL: the file of this machine that the run was begun on."""

    @classmethod
    def of(cls, out: str | os.PathLike[str], part: str = "") -> "Output":
        """What a user names; a URL that cannot be written to is refused.

        Raises
        ------
        FeatureFileError, MissingExtra
            In one line.
        """
        if not isinstance(out, str) or not is_remote(out):
            if is_squashed(out):
                raise FeatureFileError(
                    f"{os.fspath(out)}: a path has lost one of the slashes of a URL; give that as "
                    f"text, not as a Path"
                )
            return cls(os.fspath(out))
        output = cls(puts.target(out).url, True, part)
        path = output.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise durable.cannot_write(path.parent, error) from error
        _far[path] = dataclasses.replace(output, mirror=str(path))
        return _far[path]

    @classmethod
    def at(cls, path: Path) -> "Output":
        """What this process works on in a file of this machine."""
        return _far.get(path) or cls(str(path))

    @property
    def path(self) -> Path:
        """The file that is worked on; of machines with one cache each has its own."""
        if self.mirror or not self.far:
            return Path(self.mirror or self.name)
        machine = re.sub(r"[^\w.-]", "_", durable.short(platform.node()))
        mirror = copies.home(self.name) / f"run-{machine}" / self.part
        return mirror / copies.name_of(self.name)

    def mirrors(self) -> list[Path]:
        """The files of this machine that runs on the URL work on, those of its shards too."""
        path = self.path
        return [path, *(folder / path.name for folder in path.parent.glob("*-of-*"))]

    def named(self) -> contextlib.AbstractContextManager[None]:
        """Have errors name what the user named."""
        return called(self.path, public(self.name)) if self.far else contextlib.nullcontext()

    def require_place(self) -> None:
        """Refuse a place that is not there or not open to the user, or cannot be reached."""
        if self.far:
            self.server.require_place(ENDING + (self.part and f"/{self.part}"))
            puts.require_rights(self.server, ENDING)

    def begin(self) -> None:
        """Have in the mirror what is at the URL; under the lock of the mirror."""
        if self.far:
            there, before = self._fetch_sealed(), self._there()
            now = places.listed(self.server, self.part)
            folder = units.folder_of(self.path)
            folder.mkdir(exist_ok=True)
            for name in before - now.keys():  # sealed, or given up, by a run elsewhere
                (folder / name).unlink(missing_ok=True)
            with durable.written(self.path.parent / THERE) as temporary:
                temporary.write_text("".join(f"{name}\n" for name in sorted(now)))
            self._taken(now)
            _begun[self.path] = _Begun(there, durable.state(self.path), {*now}, now)

    def send(self, without: Collection[str] = ()) -> None:
        """Have at the URL the units that a killed run left in the mirror, but for those named."""
        if self.far:
            begun = _begun[self.path]
            for path in sorted(units.folder_of(self.path).glob("*.h5")):
                if path.name not in {*begun.units, *without} and places.UNIT.fullmatch(path.name):
                    self.push(path)
                    begun.units.add(path.name)

    def pull(self) -> bool:
        """Have here the units that others have published; whether there were any."""
        if not self.far or self.part:
            return False
        now = places.listed(self.server)
        _begun[self.path].places.update(now)
        return bool(self._taken(now))

    def publish(self, *unit: Any) -> str:
        """Publish a unit of these, see `units.publish`; its name."""
        path = units.publish(units.folder_of(self.path), *unit)
        self.push(path)
        return os.path.basename(str(path))

    def push(self, path: Path | None = None) -> None:
        """Have a unit of the mirror at the URL too, and before it the graph that made it."""
        if self.far:
            there = self._there()
            for graph in units.folder_of(self.path).glob(f"*{graphs.ENDING}"):
                if graph.name not in there:
                    self._put(graph)
            if path is not None:
                self._put(path)

    def take(self, name: str) -> bool:
        """Have a unit or graph here that another process has put there; whether it is here."""
        if self.far:
            self._taken({name: name})
        return (units.folder_of(self.path) / name).exists()

    def take_sealed(self) -> bool:
        """Whether what has been sealed is here; of workers of a cluster see `direct`."""
        return True

    @property
    def then(self) -> Told | None:
        """What was at the URL when the run of this process began."""
        return _begun[self.path].there

    def upload(self) -> None:
        """Have the sealed file at the URL, if it is another than the run began with.

        Raises
        ------
        FeatureFileError
            If another run sealed there meanwhile; everything is kept.
        """
        if not self.far or _begun[self.path].state == durable.state(self.path):
            return
        begun = _begun[self.path]
        written, etag = puts.replace(self.server, self.path, begun.there)
        if not written and not self._is_there():
            raise self.overtaken()
        now = self.server.told()
        if now is not None and etag in ("", now.etag):
            copies.adopt(self.name, self.path, now)
        begun.there, begun.state = now, durable.state(self.path)

    def settled(self, made: Iterable[Unit], sealed: set[Key]) -> list[Unit]:
        """Those units that may go when these keys are sealed: known before, or sealed wholly.

        What another run has published meanwhile may be of images that this one does not have.
        """
        if not self.far:
            return list(made)
        known = _begun[self.path].units
        return [one for one in made if one.path.name in known or sealed.issuperset(one.keys)]

    def drop(self, names: Iterable[str]) -> None:
        """Delete units and graphs at the URL that are no longer needed."""
        if not self.far:
            return
        known = _begun[self.path].places
        there = [known.get(name) or places.place(name, self.part) for name in names]
        try:
            self.server.each(lambda place: self.server.remove(f"{ENDING}/{place}"), there)
        except FeatureFileError as error:
            _log.warning("%s; what is left of units there is removed by the next run", error)

    def sealed(self, store: FeatureStore) -> FeatureStore:
        """The store of what has been sealed, as the user named it, be it by a link."""
        if not self.far:
            store.path = Path(self.name)
            return store
        found = FeatureStore(self.name)
        self.path.unlink(missing_ok=True)  # the copy that is read is the same file
        self.server.leave(ENDING)
        return found

    def clear(self) -> None:
        """Remove the mirror of a shard: everything is at the URL; under its lock."""
        if self.far and self.part:
            shutil.rmtree(self.path.parent, ignore_errors=True)

    @property
    def server(self) -> Server:
        """Whoever is asked about a URL."""
        return Server(self.name)

    def overtaken(self) -> FeatureFileError:
        """What to say where another run has sealed since this one began."""
        return FeatureFileError(
            f"{public(self.name)}: another run sealed it while this one was at work. What that one "
            f"made is not touched, and the finished work of this one is kept: run the same command "
            f"again, and it goes on from there"
        )

    def _fetch_sealed(self) -> Told | None:
        found = copies.fetched(self.server)
        if found is None:
            self.path.unlink(missing_ok=True)
            return None
        copies.placed(found[0], self.path)
        return found[1]

    def _there(self) -> set[str]:
        with contextlib.suppress(OSError):
            return set((self.path.parent / THERE).read_text().splitlines())
        return set()

    def _remember(self, name: str) -> None:
        with open(self.path.parent / THERE, "a") as file:
            file.write(f"{name}\n")

    def _taken(self, there: Mapping[str, str]) -> list[str]:
        """Fetch those of which there are none here; which."""
        folder = units.folder_of(self.path)
        lacking = [there[name] for name in sorted(there) if not (folder / name).exists()]
        return [one for one in self.server.each(self._fetched, lacking) if one]

    def _fetched(self, place: str) -> str:
        data = self.server.read(f"{ENDING}/{place}")
        if data is None:  # sealed meanwhile
            return ""
        folder, name = units.folder_of(self.path), place.rpartition("/")[2]
        try:
            durable.publish(folder / name, data)
            self._remember(name)
        except OSError as error:
            raise durable.cannot_write(folder, error) from error
        return place

    def _put(self, path: Path) -> None:
        places.put(self.server, places.place(path.name, self.part), path, path.read_bytes())
        self._remember(path.name)

    def _is_there(self) -> bool:
        """Whether what has been sealed at the URL is what this run has sealed."""
        try:
            digest = FeatureStore(self.name).content_digest
        except FeatureFileError:
            return False
        return digest == FeatureStore(self.path).content_digest


@dataclasses.dataclass
class _Begun:
    """What was at a URL when the run of this process on it began.

    It is kept in no file: another process, be it of another machine with the same cache, has begun
    with something else, which must not become the condition on which this one writes.
    """

    there: Told | None
    state: tuple[int, int, int] | None
    """That of the copy of what is there, the file of the mirror."""
    units: set[str]
    places: dict[str, str]
    """Where units lie in the folder of units, and those that were found later, by name."""


_far: Final[dict[Path, Output]] = {}
_begun: Final[dict[Path, _Begun]] = {}
