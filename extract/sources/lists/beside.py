"""Where the images of a list lie: in its folder, or in one of those in it."""

import collections
import os
import unicodedata
from typing import Final

from .. import tree
from ..image import ImageReference, tidy
from ..remote.url import is_address

_FORMS: Final = ("NFC", "NFD")

_Names = dict[str, list[bytes]]


class Beside:
    """A folder on this machine that paths in a list are relative to.

    A path that leads nowhere is looked for in the folders of that folder, and a name without a
    suffix by its stem: ``000bec180`` is ``train/000bec180.jpg``.
    """

    def __init__(self, folder: bytes, name: str) -> None:
        self.name = name
        self._folder = folder
        self._below: list[bytes] | None = None
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
        if not os.path.lexists(os.path.join(self._folder, given)):
            found = self._found(cell)
            if len(found) > 1:
                first, second = (os.fsdecode(os.path.join(self._folder, one)) for one in found[:2])
                raise LookupError(
                    f"{cell!r} may be {first} or {second}; write the path of the one that is meant"
                )
            given = found[0] if found else given
        path = tidy(given, self._folder)
        if os.path.isabs(path) and path == os.path.normpath(path):
            inside = os.path.relpath(path, os.path.abspath(self._folder))
            path = path if inside.startswith(b"..") else inside
        return ImageReference(path, os.path.join(self._folder, given), label, split)

    def searched(self) -> str:
        """Where it has been looked for images that are not there."""
        where = os.fsdecode(os.path.abspath(self._folder))
        return f"paths are relative to {where}, and names were looked for in the folders in it too"

    def _found(self, cell: str) -> list[bytes]:
        spelt = cell.strip().replace("\\", "/")
        if spelt != cell and os.path.lexists(os.path.join(self._folder, os.fsencode(spelt))):
            return [os.fsencode(spelt)]
        if os.path.isabs(spelt) or "/../" in f"/{spelt}/":
            return []
        above, _, name = spelt.rpartition("/")
        name = unicodedata.normalize("NFC", name)
        stems: list[bytes] = []
        exact: list[bytes] = []
        for folder in self._folders():
            for form in _FORMS if not above.isascii() else _FORMS[:1]:
                here = os.path.join(folder, os.fsencode(unicodedata.normalize(form, above)))
                names = self._images(here)
                exact += names[0].get(name, [])
                stems += names[1].get(name, [])
        return exact or stems

    def _folders(self) -> list[bytes]:
        if self._below is None:
            self._below = [b""]
            try:
                with os.scandir(self._folder or b".") as entries:
                    self._below += sorted(
                        entry.name
                        for entry in entries
                        if not tree.is_others(os.fsdecode(entry.name)) and entry.is_dir()
                    )
            except OSError:  # reading the images will say why
                pass
        return self._below

    def _images(self, folder: bytes) -> tuple[_Names, _Names]:
        """Images directly in a folder, by name and by stem."""
        if folder not in self._listed:
            names: dict[str, list[bytes]] = collections.defaultdict(list)
            stems: dict[str, list[bytes]] = collections.defaultdict(list)
            try:
                for entry in sorted(os.listdir(os.path.join(self._folder, folder) or b".")):
                    name = unicodedata.normalize("NFC", os.fsdecode(entry))
                    path = os.path.join(folder, entry)
                    names[name].append(path)
                    if tree.is_image_name(name) and not tree.is_others(name):
                        stems[os.path.splitext(name)[0]].append(path)
            except OSError:
                pass
            self._listed[folder] = dict(names), dict(stems)
        return self._listed[folder]
