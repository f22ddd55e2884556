"""Where the images of a list lie that is on a server: in its folder, or in one of those in it."""

import collections
import dataclasses
import posixpath
import re
import unicodedata
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Final

from .. import tree
from ..image import ImageReference, Unreadable
from ..listing import Listing
from . import retry
from .folder import about_unstamped, files, unknown_stamp
from .reference import RemoteReference, stamp_of
from .store import EXTRA, Store, public

_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://[^/]")
_WEB: Final = ("http", "https")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskedReference(RemoteReference):
    """An image of which the server has been asked, and has not answered yet; see `settled`."""

    answer: "Future[Mapping[str, Any]]" = dataclasses.field(compare=False)

    def exists(self) -> bool:
        """Whether the server has it, or does not say; waits for the answer."""
        return bool(self.now().stamp)

    def now(self) -> RemoteReference:
        """The image as the server says that it is."""
        info: Mapping[str, Any] = {}
        try:
            info = self.answer.result()
            stamp = stamp_of(info) or unknown_stamp()
        except Unreadable as error:  # reading it will say why
            gone = retry.status_of(error.__cause__ or error) in (404, 410)
            stamp = 0 if gone else unknown_stamp()
        return RemoteReference(
            self.path,
            self.location,
            self.label,
            self.split,
            store=self.store,
            key=self.key,
            size=info.get("size"),
            stamp=stamp,
        )

    @property
    def unstamped(self) -> bool:
        """Whether the server answers, and says nothing that tells when the image changes."""
        return self.answer.exception() is None and not stamp_of(self.answer.result())


def is_address(cell: str) -> bool:
    """Whether a cell of a list is a URL, of a kind that may lie anywhere."""
    found = _ADDRESS.match(cell.strip())
    return found is not None and found[1].casefold() in EXTRA


def asked(address: str, label: str | None, split: str) -> AskedReference:
    """The image at a URL, of which the server is asked now; its path is the URL."""
    address = address.strip()
    name = public(address).encode("utf-8", "backslashreplace")
    store = Store(address)
    key = address if store.protocol in _WEB else store.root
    return _asked(store, key, name, name, label, split)


def settled(listing: Listing) -> Listing:
    """The same listing, when all servers have answered."""
    images = [
        image.now() if isinstance(image, AskedReference) else image for image in listing.images
    ]
    count = sum(isinstance(image, AskedReference) and image.unstamped for image in listing.images)
    return dataclasses.replace(
        listing, images=images, notes=[*listing.notes, *about_unstamped(count)]
    )


class RemoteBeside:
    """A folder on a server that paths in a list are relative to; see `beside.Beside`.

    It is listed once. What cannot be listed (pages of the web) is asked for each image, many at a
    time.
    """

    def __init__(self, folder: str, name: str) -> None:
        self.name = name
        self._store = Store(folder)
        self._files = {} if self._store.protocol in _WEB else files(self._store)
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
        if self._store.protocol in _WEB:
            whole = self._store.url.rstrip("/") + "/" + re.sub("[?#]", _quoted, path)
            return _asked(self._store, whole, name, location, label, split)
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
        if self._store.protocol in _WEB:
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


def _asked(
    store: Store, key: str, path: bytes, location: bytes, label: str | None, split: str
) -> AskedReference:
    answer = store.begin_info(key)
    return AskedReference(
        path, location, label, split, store=store, key=key, size=None, stamp=1, answer=answer
    )


def _quoted(mark: re.Match[str]) -> str:
    return f"%{ord(mark[0]):02X}"
