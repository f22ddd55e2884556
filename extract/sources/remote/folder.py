"""A folder on a server -> references to the images below it."""

import collections
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from ....features.durable.remote import failures
from ....features.durable.remote.system import stamp_of
from ....features.durable.remote.url import WEB
from ....features.errors import SourceError
from .. import passed, tree
from ..image import LONGEST_PATH, Unreadable
from ..listing import Listing
from .reader import attempted
from .reference import RemoteReference
from .store import Store

_File = tuple[str, bytes, str, Mapping[str, Any]]
"""Relative path, the same as bytes, what the file system calls it, and what it says of it."""


def files(store: Store) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Every file below the URL of a store: relative path -> its name there, and what is said of it.

    Raises
    ------
    SourceError
        In one line, whatever the library says.
    """
    fs, web = store.listing, store.protocol in WEB
    root = store.root.partition("?")[0].rstrip("/")
    found = attempted_listing(store, root + "/" if web else root, fs)
    below: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for name, info in found.items():
        relative = name[len(root) + 1 :] if root and name.startswith(root + "/") else ""
        relative = relative if root else name.removeprefix("/")
        if web:  # pages link to orders of themselves, and to places in themselves
            relative = unquote(relative.partition("?")[0].partition("#")[0])
        if relative and not relative.endswith("/") and info.get("type") != "directory":
            below.setdefault(relative, (name, info))
    return below


def attempted_listing(store: Store, root: str, fs: Any) -> dict[str, Mapping[str, Any]]:
    """What the file system finds below a root; where it passes over what fails, it must not."""
    from fsspec.asyn import AsyncFileSystem
    from fsspec.spec import AbstractFileSystem

    kind = type(fs)
    walks = (
        kind._find is AsyncFileSystem._find
        if isinstance(fs, AsyncFileSystem)
        else kind.find is AbstractFileSystem.find
    )
    strict = {"on_error": "raise"} if walks else {}

    def find() -> dict[str, Mapping[str, Any]]:
        fs.invalidate_cache()
        return dict(fs.find(root, detail=True, **strict))

    try:
        # The others have their own ways of trying a page again.
        return attempted(find) if store.protocol in WEB else find()
    except Exception as error:  # of anybody's library
        raise cannot(store, error) from error


def cannot(store: Store, error: BaseException) -> SourceError:
    """Why a URL gives nothing, in one line."""
    if isinstance(error, SourceError):
        return error
    cause = error.__cause__ or error if isinstance(error, Unreadable) else error
    return SourceError(f"{store.name}: {failures.why(cause, 'cannot be listed')}")


def folder(store: Store) -> Listing:
    """All images below a folder, by path; what is understood is as for a folder on this machine."""
    over = passed.Over(head=lambda _: b"")
    found: dict[tree.Parts, list[_File]] = collections.defaultdict(list)
    hidden: set[str] = set()
    long = 0
    below = files(store)
    if not below and store.protocol not in WEB:
        raise SourceError(f"{store.name}: there is nothing below this address; check the spelling")
    for relative, (key, info) in below.items():
        parts = [part for part in relative.split("/") if part]
        others = next((n for n, part in enumerate(parts) if tree.is_others(part)), None)
        path = relative.encode("utf-8", "backslashreplace")
        if others is not None:
            hidden.add("/".join(parts[: others + 1]))
        elif not tree.is_image_name(parts[-1] if parts else ""):
            over.file(parts[-1] if parts else relative, path)
        elif len(path) > LONGEST_PATH or "\0" in relative:
            long += 1
        else:
            found[tuple(parts[:-1])].append((relative, path, key, info))
    for _ in hidden:
        over.others()
    if long:
        over.counts[f"paths of more than {LONGEST_PATH:,} bytes"] = long
    meanings, label_notes = tree.understand({parts: len(found[parts]) for parts in found})
    images, unstamped = _referenced(store, found, meanings)
    if not images and store.protocol in WEB:
        raise SourceError(
            f"{store.name}: this page links to no images in it; what has no such page is given as "
            f"a list (.csv), or image by image{over.instead()}"
        )
    if not images:
        raise SourceError(f"{store.name}: no images in this folder or below it{over.instead()}")
    images.sort(key=lambda image: image.path)
    notes = over.notes() + about_unstamped(unstamped)
    if long:
        notes.append(
            f"{long:,} paths are longer than {LONGEST_PATH:,} bytes, or have a NUL in them, and "
            f"are passed over"
        )
    bare = store.name.rstrip("/")
    return Listing(
        store.name if bare.endswith(":") else bare,  # one name for one folder
        images,
        notes=notes,
        label_notes=label_notes,
        passed_over=dict(sorted(over.counts.items())),
    )


def about_unstamped(count: int) -> list[str]:
    """A note on images of which nothing tells whether they have changed."""
    if not count:
        return []
    told = f"of {count:,} images the server says neither etag nor date"
    return [f"{told}; they are read again by every run"]


def unknown_stamp() -> int:
    """A stamp that was never there before: nothing tells whether the file has changed."""
    return secrets.randbits(63) | 1


def _referenced(
    store: Store,
    found: Mapping[tree.Parts, list[_File]],
    meanings: Mapping[tree.Parts, tree.Meaning],
) -> tuple[list[RemoteReference], int]:
    """References, and how many have no stamp of their own."""
    images: list[RemoteReference] = []
    unstamped = 0
    # Pages of links have no sizes: each file is asked for, many at a time.
    every = [(key, info) for several in found.values() for _, _, key, info in several]
    bare = [key for key, info in every if info.get("size") is None]
    asked = store.infos(bare)
    for parts, several in found.items():
        label, split = meanings[parts]
        for relative, path, key, listed in several:
            info, stamp = asked.get(key, listed), 0
            if isinstance(info, Unreadable):
                # Linked and not there: as a link to nowhere. Of what cannot be told now, reading
                # will say why.
                gone = failures.status_of(info.__cause__ or info) in (404, 410)
                info, stamp = {}, 0 if gone else unknown_stamp()
            else:
                stamp = stamp_of(info)
                unstamped += not stamp
                stamp = stamp or unknown_stamp()
            location = f"{store.name.rstrip('/')}/{relative}".encode("utf-8", "backslashreplace")
            images.append(
                RemoteReference(
                    path,
                    location,
                    label,
                    split,
                    store=store,
                    key=key,
                    size=info.get("size"),
                    stamp=stamp,
                )
            )
    return images, unstamped
