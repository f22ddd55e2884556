"""Whatever fsspec opens, by its URL -> references to the images there."""

import itertools
import os
from collections.abc import Mapping, Sequence

from ....features.durable.remote.system import require_known
from ....features.durable.remote.url import URL, public
from ....features.errors import SourceError, WrongUsage
from ...images.decode import SUFFIXES
from .. import archives, tree
from ..image import Unreadable
from ..listing import Listing
from ..lists import manifest, table
from . import folder
from .address import AskedReference, asked, settled
from .beside import RemoteBeside
from .reference import AS_A_WHOLE, SMALLEST_BLOCK, RemotePlace
from .store import Store, anew


def listed(name: str, columns: Mapping[str, str]) -> Listing:
    """The images at a URL: of a folder, a list, an archive, or an image.

    Raises
    ------
    SourceError
        In one line: if it is not there or not open to the user, or cannot be reached.
    MissingExtra
        If the library that opens it is not installed.
    """
    anew()
    name = URL.sub(lambda found: found[0].lower(), name, count=1)
    require_known(name, SourceError)
    path = _target(name)
    if path.casefold().endswith(tuple(map(os.fsdecode, manifest.ENDINGS))):
        return _list(name, path, columns)
    if columns:
        raise WrongUsage(
            f"columns {', '.join(columns.values())}: only lists have columns (.csv, .tsv)"
        )
    if archives.is_archive(path):
        return archives.listed(public(name), [_place(one) for one in archives.names(name)])
    if tree.is_image_name(path.rpartition("/")[2]):
        return files([name])
    return folder.folder(Store(name))


def files(names: Sequence[str]) -> Listing:
    """Images at URLs, in the order in which they are given; or those in archives there."""
    anew()
    if len(names) > 1 and all(archives.is_archive(_target(name)) for name in names):
        every = [one for name in names for one in archives.names(name)]
        levels = zip(*(public(name).split("/")[:-1] for name in every), strict=False)
        same = itertools.takewhile(lambda level: len({*level}) == 1, levels)
        return archives.listed("/".join(level[0] for level in same), list(map(_place, every)))
    images: dict[bytes, AskedReference] = {}
    for name in names:
        require_known(name, SourceError)
        if not tree.is_image_name(_target(name).rpartition("/")[2]):
            raise SourceError(
                f"{public(name)}: not an image by its name ({' '.join(sorted(SUFFIXES))}); only "
                f"images, or only archives, can be given several at a time"
            )
        image = asked(name, None, tree.NO_SPLIT)
        if image.path in images:
            raise SourceError(f"{public(name)}: is given twice")
        images[image.path] = image
    for image in images.values():
        error = image.answer.exception()
        if isinstance(error, Unreadable):
            raise folder.cannot(Store(os.fsdecode(image.path)), error)
    protocol = names[0].partition("://")[0]
    return settled(Listing(f"{protocol}://", list(images.values()), by_name=True))


def _target(name: str) -> str:
    """What a URL is of: without what follows in a chain, or is asked for, as ``?page=1``."""
    target = next(part for part in name.split("::") if "://" in part)
    web = target.casefold().startswith(("http://", "https://"))
    return target.partition("?")[0].partition("#")[0] if web else target


def _place(name: str) -> RemotePlace:
    reference = asked(name, None, tree.NO_SPLIT)
    error = reference.answer.exception()
    if isinstance(error, Unreadable):
        raise folder.cannot(Store(name), error)
    image = reference.now()
    if image.size is None:
        raise SourceError(
            f"{public(name)}: the server does not say how large this file is, so that it cannot be "
            f"read in parts; download it"
        )
    place = RemotePlace(image.store, image.key, image.size, image.stamp, public(name))
    try:
        if image.size > SMALLEST_BLOCK and not image.store.gives_parts(image.key):
            raise SourceError(f"{place.name}: {AS_A_WHOLE}; download it")
    except Unreadable as failed:
        raise folder.cannot(image.store, failed) from failed
    return place


def _list(name: str, path: str, columns: Mapping[str, str]) -> Listing:
    reference = asked(name, None, tree.NO_SPLIT)
    error = reference.answer.exception()
    try:
        if isinstance(error, Unreadable):
            raise error
        data, _ = reference.now().read()
    except Unreadable as failed:
        raise folder.cannot(Store(name), failed) from failed
    folder_url = name.replace(path, path.rpartition("/")[0] + "/", 1).partition("?")[0]
    root = RemoteBeside(folder_url, public(name))
    return manifest.listed(table.of_bytes(data, public(name)), root, columns)
