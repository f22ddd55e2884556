"""Where the images of a list lie that is on a server: in its folder, or in one of those in it."""

import collections
import posixpath
import re
import unicodedata

from ....features.durable.remote.system import stamp_of
from ....features.durable.remote.url import WEB, is_address
from .. import tree
from ..image import ImageReference
from .address import asked, asked_of
from .folder import files, unknown_stamp
from .reference import RemoteReference
from .store import Store


class RemoteBeside:
    """A folder on a server that paths in a list are relative to; see `beside.Beside`.

    It is listed once. What cannot be listed (pages of the web) is asked for each image, many at a
    time.
    """

    def __init__(self, folder: str, name: str) -> None:
        self.name = name
        self._store = Store(folder)
        self._files = {} if self._store.protocol in WEB else files(self._store)
        self._names: dict[str, dict[str, list[str]]] = {}
        self._stems: dict[str, dict[str, list[str]]] = {}
        self._below = [""]
        self._sort()

    def reference(self, cell: str, label: str | None, split: str) -> ImageReference:
        """The image that a cell of a list means, be it there or not; see `beside.Beside`."""
        if is_address(cell):
            inside = self._inside(cell.strip())
            if inside is None:
                return asked(cell, label, split)
            cell = inside
        path = cell
        if path not in self._files:
            path = posixpath.normpath(cell.strip().replace("\\", "/"))
            found = [] if path in self._files else self._found(path)
            if len(found) > 1:
                first, second = (f"{self._address()}/{one}" for one in found[:2])
                raise LookupError(
                    f"{cell!r} may be {first} or {second}; write the path of the one that is meant"
                )
            path = found[0] if found else path
        name = path.encode("utf-8", "surrogateescape")
        location = f"{self._address()}/{path}".encode("utf-8", "surrogateescape")
        if self._store.protocol in WEB:
            whole = self._store.url.rstrip("/") + "/" + re.sub("[?#]", _quoted, path)
            return asked_of(self._store, whole, name, location, label, split)
        key, info = self._files.get(path, (f"{self._store.root.rstrip('/')}/{path}", {}))
        stamp = (stamp_of(info) or unknown_stamp()) if path in self._files else 0
        return RemoteReference(
            name,
            location,
            label,
            split,
            store=self._store,
            key=key,
            size=info.get("size"),
            stamp=stamp,
        )

    def searched(self) -> str:
        """Where it has been looked for images that are not there."""
        if self._store.protocol in WEB:
            return f"paths are relative to {self._address()}/, and nothing can be listed there"
        return (
            f"paths are relative to {self._address()}/, and names were looked for in the folders "
            f"in it too"
        )

    def _address(self) -> str:
        return self._store.name.rstrip("/")

    def _inside(self, address: str) -> str | None:
        root = self._store.url.rstrip("/") + "/"
        return address[len(root) :] if address.startswith(root) else None

    def _sort(self) -> None:
        below = set()
        for relative in self._files:
            above, _, name = relative.rpartition("/")
            name = unicodedata.normalize("NFC", name)
            above = unicodedata.normalize("NFC", above)
            first = relative.partition("/")[0]
            if above and not tree.is_others(first):
                below.add(unicodedata.normalize("NFC", first))
            names = self._names.setdefault(above, collections.defaultdict(list))
            names[name].append(relative)
            if tree.is_image_name(name) and not tree.is_others(name):
                stems = self._stems.setdefault(above, collections.defaultdict(list))
                stems[posixpath.splitext(name)[0]].append(relative)
        self._below += sorted(below)

    def _found(self, spelt: str) -> list[str]:
        if spelt.startswith("/") or "/../" in f"/{spelt}/":
            return []
        above, _, name = unicodedata.normalize("NFC", spelt).rpartition("/")
        exact: list[str] = []
        stems: list[str] = []
        for folder in self._below:
            here = posixpath.join(folder, above) if above else folder
            exact += self._names.get(here, {}).get(name, [])
            stems += self._stems.get(here, {}).get(name, [])
        return exact or stems


def _quoted(mark: re.Match[str]) -> str:
    return f"%{ord(mark[0]):02X}"
