"""Archives -> references to the images in them, and what was passed over."""

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from ....features.errors import SourceError
from .. import passed, tree
from ..image import LONGEST_PATH, Unreadable
from ..listing import Listing
from ..place import Place
from . import beside, tarred, unpacked, zipped
from .members import FILE, FOLDER, LINK, Direct, Entry, Member, Reader
from .reference import Archive, FarReference, MemberReference, opened

_MOST_MEMBERS: Final = 10_000_000
_DEEPEST: Final = 64
_MOST_FOLDERS: Final = 4_000_000
"""All folders, each as often as it is deep: so many take a gigabyte to understand."""


OTHER_KINDS: Final = (".rar", ".7z", ".tar.zst", ".tzst", ".tar.lz4", ".tar.lz", ".tar.z")
"""Archives that nothing in Python's own library unpacks."""

_CLIMBS, _NUL, _DEEP, _LONG, _LINKS = (
    "with names that lead out of the archive",
    "with a NUL in their names",
    f"in more than {_DEEPEST} folders",
    f"with names of more than {LONGEST_PATH:,} bytes",
    "links or devices, which are not followed",
)
_OTHERS: Final = "others"

_HEAD: Final = 32


class _Folder(NamedTuple):
    prefix: bytes
    """Its path in the listing, with a slash."""
    parts: tuple[str, ...]
    over: str
    """Why what is in it is passed over."""


class Scan:
    """What has been found in archives so far."""

    def __init__(self) -> None:
        self._images: dict[bytes, tuple[Archive, Member, tuple[str, ...]]] = {}
        self._again: list[bytes] = []
        self._folders: dict[tuple[str, ...], int] = {}
        self._deep = self._count = 0
        self._labels = beside.Labels()
        self._beside = False
        self._tops: dict[tuple[str, ...], str] = {}
        self._first: dict[str, str] = {}
        self._notes: list[str] = []
        self._here: tuple[Member, Reader] | None = None
        self._over = passed.Over(self._head)

    def add(self, place: Place, turn: int, above: bytes, top: tuple[str, ...]) -> None:
        """Take in an archive; its images have `above` before their names, and lie in `top`."""
        if place.name.lower().endswith(OTHER_KINDS):
            raise SourceError(
                f"{place.name}: this kind of archive is not read in place; unpack it and give the "
                f"folder, or pack it as .zip or .tar"
            )
        if top:
            self._tops.setdefault(top, place.name)
        try:
            with opened(place) as file:
                magic = file.read(6)
            archive = Archive.at(place, turn, packed=magic.startswith(unpacked.MAGICS))
            self._take(archive, magic, above, top)
            archive.require_same()
        except Unreadable as error:
            raise SourceError(f"{place.name}: {error}") from error
        except OSError as error:
            raise SourceError(f"{place.name}: cannot be read: {error.strerror or error}") from error

    def listing(self, name: str) -> Listing:
        """All that was found."""
        if not self._images:
            raise SourceError(f"{name}: no images in this archive{self._over.instead()}")
        for _, _, parts in self._images.values():
            self._folders[parts] += 1
        meanings, label_notes = tree.understand(self._folders)
        paths = sorted(self._images)
        labels = {path: meanings[self._images[path][2]].label for path in paths}
        said = {path: self._labels.of(path) for path in paths} if self._beside else {}
        count = sum(label is not None for label in said.values())
        foldered = any(label is not None for label in labels.values())
        if count == len(paths) or (count and not foldered):
            labels = said
            label_notes = self._about_beside(said, count, label_notes)
        else:
            label_notes = [*self._about_archives(labels), *label_notes]
            if count:
                label_notes.append(
                    f"labels are those of the folders: {' and '.join(beside.SUFFIXES)} beside the "
                    f"images say those of {count:,} of {len(paths):,}, and are not used"
                )
        images: list[MemberReference] = []
        for path in paths:
            archive, member, parts = self._images[path]
            kind = FarReference if archive.place.far else MemberReference
            where, split = archive.location, meanings[parts].split
            label = labels[path]
            images.append(kind(path, where, label, split, archive=archive, member=member))
        label_notes += self._about_lists(labels)
        label_notes += self._labels.notes() + beside.about_samples(paths)
        return Listing(
            name,
            images,
            notes=[*self._notes, *self._about_members(), *self._over.notes()],
            label_notes=label_notes,
            passed_over=self._over.counts,
        )

    def _take(self, archive: Archive, magic: bytes, above: bytes, top: tuple[str, ...]) -> None:
        if not magic:
            raise Unreadable("the file is empty")
        reader: Direct | unpacked.Forward
        entries: Iterator[Entry]
        if archive.packed:
            reader = unpacked.Forward(archive.open())
            entries = tarred.entries(reader)
        else:
            reader = Direct(archive.open)
            zip_file = magic.startswith(zipped.MAGIC) or archive.place.name.lower().endswith(".zip")
            entries = zipped.entries(reader) if zip_file else tarred.entries(reader)
        folders: dict[bytes, _Folder] = {}
        try:
            for path, kind, member in entries:
                self._count += 1
                if self._count > _MOST_MEMBERS:
                    raise Unreadable(f"more than {_MOST_MEMBERS:,} members; divide it")
                around, _, name = path.rpartition(b"/")
                if kind == FOLDER:
                    around, name = path.rstrip(b"/"), b""
                folder = folders.get(around)
                if folder is None:
                    folder = folders[around] = self._meet(around, above, top)
                self._here = member, reader
                if name:
                    self._one(archive, folder, name, kind, member)
        except tarred.Odd as odd:
            called = os.fsdecode(above.rstrip(b"/")) or "the archive"
            self._notes.append(f"{called} {odd}")
        finally:
            reader.close()

    def _meet(self, around: bytes, above: bytes, top: tuple[str, ...]) -> _Folder:
        # Tools for unpacking leave out what stands before the first name, too.
        parts = [part for part in around.split(b"/") if part not in (b"", b".")]
        names = tuple(map(os.fsdecode, parts))
        over = ""
        if b".." in parts:
            over = _CLIMBS
        elif b"\0" in around:
            over = _NUL
        elif any(map(tree.is_others, names)):
            over = _OTHERS
        elif len(parts) > _DEEPEST:
            over = _DEEP
        folder = _Folder(above + b"".join(part + b"/" for part in parts), top + names, over)
        if not over and folder.parts not in self._folders:
            self._folders[folder.parts] = 0
            self._deep += len(folder.parts)
            if self._deep > _MOST_FOLDERS:
                raise Unreadable("more folders in folders than can be understood; divide it")
        return folder

    def _one(
        self, archive: Archive, folder: _Folder, name: bytes, kind: int, member: Member
    ) -> None:
        text, path = os.fsdecode(name), folder.prefix + name
        over = folder.over
        if not over:
            if tree.is_others(text):
                over = _OTHERS
            elif b"\0" in name:
                over = _NUL
            elif len(path) > LONGEST_PATH:
                over = _LONG
            elif kind == LINK:
                over = _LINKS
        if over == _OTHERS:
            self._over.others()
        elif over:
            self._over.counts[over] += 1
            self._first.setdefault(over, os.fsdecode(path[:200]))
        elif kind == FILE and tree.is_image_name(text):
            if path in self._images:
                self._again.append(path)
            self._images[path] = archive, member, folder.parts
        elif kind == FILE and not self._take_beside(path, text, member):
            self._over.file(text, os.fsencode(archive.place.name) + b"/" + path)

    def _take_beside(self, path: bytes, name: str, member: Member) -> bool:
        """Take the label from what lies beside images, if it is there."""
        suffix = os.path.splitext(name)[1].lower()
        if suffix not in beside.SUFFIXES or member.size > beside.MOST_BYTES:
            return False
        said = self._labels.add(path, self._bytes())
        self._beside = self._beside or said
        return said

    def _bytes(self, most: int | None = None) -> bytes:
        """Of the member that has just been met; none if it cannot be read."""
        if self._here is None:
            return b""
        member, reader = self._here
        try:
            return member.read(reader, most)
        except Unreadable:  # of no image
            return b""

    def _head(self, _: bytes) -> bytes:
        return self._bytes(_HEAD)

    @staticmethod
    def _about_beside(
        said: Mapping[bytes, str | None], count: int, notes: Sequence[str]
    ) -> list[str]:
        if count == len(said):
            notes = [note for note in notes if not note.endswith("no label")]
        rest = len(said) - count
        left = f"; the {rest:,} others have none" if rest else ""
        taken = f"labels are those in {' and '.join(beside.SUFFIXES)} beside the images{left}"
        more = tree.about_labels(said.values())
        return [taken, *notes, *(note for note in more if note not in notes)]

    def _about_archives(self, labels: Mapping[bytes, str | None]) -> Iterator[str]:
        """A line if archives, and no folders in them, say labels by their names."""
        for path, label in labels.items():
            top, *inside = self._images[path][2] or ("",)
            if label is None or (top,) not in self._tops:
                continue
            if not any(label in unicodedata.normalize("NFC", name) for name in inside):
                yield (
                    f"labels are the names of the archives, such as {label!r} of "
                    f"{self._tops[top,]}; if they are no classes, call them x-1, x-2 ..."
                )
                return

    def _about_lists(self, labels: Mapping[bytes, str | None]) -> Iterator[str]:
        """A line on a list that may say the labels, where nothing else does."""
        if self._over.lists and len({*labels.values()}) == 1:
            yield (
                f"{min(self._over.lists, key=len)} may say the labels, and is not read in an "
                f"archive; unpack the archive, and give the list as the source"
            )

    def _about_members(self) -> Iterator[str]:
        for why in (_CLIMBS, _NUL, _DEEP, _LONG, _LINKS):
            if why in self._first:
                yield (
                    f"{self._over.counts[why]:,} members {why}, are passed over, such as "
                    f"{self._first[why]}"
                )
        if self._again:
            yield (
                f"{len(self._again):,} members have the name of one before, such as "
                f"{os.fsdecode(self._again[0])}; the last counts, as it does in unpacking"
            )
