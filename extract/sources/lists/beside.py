"""Where the images of a list lie: in its folder, or in one of those in it."""

import collections
import contextlib
import functools
import os
import unicodedata

from ....features.durable.remote.url import is_address
from .. import tree
from ..image import ImageReference, tidy

_Names = dict[str, list[bytes]]


class Beside:
    """A folder on this machine that paths in a list are relative to.

    A path that leads nowhere is looked for in the folders of that folder, and a name without a
    suffix by its stem: ``000bec180`` is ``train/000bec180.jpg``.
    """

    def __init__(self, folder: bytes, name: str) -> None:
        self.name = name
        self._folder = folder
        self._listed: dict[bytes, tuple[_Names, _Names]] = {}

    def reference(self, cell: str, label: str | None, split: str) -> ImageReference:
        """The image that a cell of a list means, be it there or not.

        Raises
        ------
        LookupError
            If it may be several.
        """
        if is_address(cell):
            from ..remote.address import asked  # 15 ms that few lists need

            return asked(cell, label, split)
        given = cell.encode("utf-8", "surrogateescape")
        if not self._is_there(given):
            found = self._found(cell)
            if len(found) > 1:
                first, second = (os.fsdecode(os.path.join(self._folder, one)) for one in found[:2])
                raise LookupError(
                    f"{cell!r} may be {first} or {second}; write the path of the one that is meant"
                )
            given = found[0] if found else given
        path = tidy(given, self._folder)
        if os.path.isabs(path) and b".." not in path.split(b"/"):
            with contextlib.suppress(ValueError):  # on another drive of Windows
                inside = tidy(os.path.relpath(path, os.path.abspath(self._folder)))
                path = path if inside.startswith(b"..") else inside
        return ImageReference(path, os.path.join(self._folder, given), label, split)

    def _is_there(self, path: bytes) -> bool:
        location = os.path.join(self._folder, path)
        return os.path.lexists(location) and not os.path.isdir(location)

    def searched(self) -> str:
        """Where it has been looked for images that are not there."""
        where = os.fsdecode(os.path.abspath(self._folder))
        return f"paths are relative to {where}, and names were looked for in the folders in it too"

    def _found(self, cell: str) -> list[bytes]:
        spelt = cell.strip().replace("\\", "/")
        if spelt != cell and self._is_there(os.fsencode(spelt)):
            return [os.fsencode(spelt)]
        if os.path.isabs(spelt) or "/../" in f"/{spelt}/":
            return []
        above, _, name = unicodedata.normalize("NFC", spelt).rpartition("/")
        first, _, rest = above.partition("/")
        exact: list[bytes] = []
        stems: list[bytes] = []
        # Of a bare name, all folders; else those that have the folder that it begins with.
        for here in self._entries.get(first, ()) if first else (None,):
            index = self._bare if here is None else self._images(_below(here, rest))
            exact += index[0].get(name, [])
            stems += index[1].get(name, [])
        return [path for path in exact if self._is_there(path)] or stems

    @functools.cached_property
    def _folders(self) -> list[bytes]:
        """The folder itself, and those in it."""
        found = [b""]
        try:
            with os.scandir(self._folder or b".") as entries:
                found += sorted(
                    entry.name
                    for entry in entries
                    if not tree.is_others(os.fsdecode(entry.name)) and entry.is_dir()
                )
        except OSError:  # reading the images will say why
            pass
        return found

    @functools.cached_property
    def _bare(self) -> tuple[_Names, _Names]:
        """Images in any of the folders, by name and by stem."""
        names: _Names = collections.defaultdict(list)
        stems: _Names = collections.defaultdict(list)
        for folder in self._folders:
            for found, here in zip((names, stems), self._images(folder), strict=True):
                for name, paths in here.items():
                    found[name] += paths
        return names, stems

    @functools.cached_property
    def _entries(self) -> _Names:
        """Everything in any of the folders, by name: what a longer path may begin with."""
        return self._bare[0]

    def _images(self, folder: bytes) -> tuple[_Names, _Names]:
        """Everything directly in a folder by name, and images by stem."""
        if folder not in self._listed:
            names: _Names = collections.defaultdict(list)
            stems: _Names = collections.defaultdict(list)
            try:
                entries = sorted(os.listdir(os.path.join(self._folder, folder) or b"."))
            except OSError:
                entries = []
            for entry in entries:
                name = unicodedata.normalize("NFC", os.fsdecode(entry))
                path = os.path.join(folder, entry)
                names[name].append(path)
                if tree.is_image_name(name) and not tree.is_others(name):
                    stems[os.path.splitext(name)[0]].append(path)
            self._listed[folder] = names, stems
        return self._listed[folder]


def _below(folder: bytes, rest: str) -> bytes:
    return os.path.join(folder, os.fsencode(rest)) if rest else folder
