"""The copy on this machine of a file on a server that is read again and again.

It is kept in the cache by the URL, beside a note of what the server said of the file when it was
fetched: as long as it says the same, and nobody has touched the copy, nothing is fetched.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Final

from ... import durable
from ...errors import FeatureFileError
from .. import caches
from .server import UNTOLD, Server, Told
from .url import is_remote, public

_LONGEST_NAME: Final = 100
_CHANGING: Final = 3
"""How often a file may change while it is fetched until it is given up."""


def home(url: str) -> Path:
    """The folder of this URL in the cache; it is made."""
    folder = caches.folder("remote") / hashlib.sha256(url.encode()).hexdigest()[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise durable.cannot_write(folder, error) from error
    caches.use(folder)
    return folder


def name_of(url: str) -> str:
    """What a copy is called: as the file itself, as far as any disk takes it."""
    last = url.rpartition("/")[2]
    return re.sub(r"[^\w.-]", "_", last)[-_LONGEST_NAME:].lstrip(".") or "file"


def place(url: str) -> Path:
    """Where the copy of this URL is, if there is one."""
    return home(url) / name_of(url)


def local(name: str | os.PathLike[str]) -> Path:
    """The file itself, or its copy on this machine if the name is a URL.

    Raises
    ------
    FeatureFileError
        If there is none, or it cannot be fetched.
    MissingExtra
        If the library that opens the URL is not installed.
    """
    if not isinstance(name, str) or not is_remote(name):
        return Path(name)
    copy = fetched(Server.anew(name))
    if copy is None:
        raise FeatureFileError(
            f"{public(name)}: no such file; `headstart extract` makes feature files"
        )
    return copy[0]


def fetched(server: Server) -> tuple[Path, Told] | None:
    """The copy of the file, and what the server says of it; None if it is not there.

    Raises
    ------
    FeatureFileError
        If it cannot be fetched.
    """
    path = place(server.url)
    for _ in range(_CHANGING):
        there = server.told()
        if there is None:
            return None
        if not _fits(path, there):
            try:
                with durable.replacing(path) as temporary:
                    server.fetch(temporary)
            except FileNotFoundError:
                continue  # it was there a moment ago
            except OSError as error:
                raise durable.cannot_write(path, error) from error
            sizes = {path.stat().st_size, there.size} - {UNTOLD}
            if len(sizes) > 1 or server.told() != there:
                continue  # it was replaced meanwhile
            note(path, there)
        return path, there
    raise FeatureFileError(
        f"{server.name}: changes each time while it is fetched; try again when nothing writes it"
    )


def adopt(url: str, path: Path, there: Told) -> Path:
    """Make `path` the copy, as what the server has, and says `there` of, was made from it."""
    copy = place(url)
    placed(path, copy)
    note(copy, there, sound=True)
    return copy


def placed(path: Path, other: Path) -> None:
    """Put a file under another name too, in the place of what is there: linked, or copied."""
    temporary = durable.temporary_beside(other)
    try:
        if other.exists() and other.samefile(path):
            return  # renaming would do nothing
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
        os.replace(temporary, other)
    except OSError as error:
        raise durable.cannot_write(other, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def is_sound(path: Path) -> bool:
    """Whether this untouched copy was found to be what was sealed."""
    found = noted(path)
    return found is not None and found[1]


def note_sound(path: Path) -> None:
    """Keep that this copy was found to be what was sealed."""
    found = noted(path)
    if found is not None:
        note(path, found[0], sound=True)


def note(path: Path, there: Told, *, sound: bool = False) -> None:
    """Keep what the server said of the file that `path` is a copy of, and whether it is `sound`."""
    values = {**dataclasses.asdict(there), "state": durable.state(path), "sound": sound}
    with contextlib.suppress(OSError), durable.replacing(_note(path)) as temporary:
        temporary.write_text(json.dumps(values))


def noted(path: Path) -> tuple[Told, bool] | None:
    """What was said of the file that `path` is an untouched copy of, and whether it is sound."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        values = json.loads(_note(path).read_bytes())
        state = durable.state(path)
        if state is not None and values["state"] == list(state):
            return Told(values["size"], values["stamp"], values["etag"]), bool(values["sound"])
    return None


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _fits(path: Path, there: Told) -> bool:
    found = noted(path)
    return found is not None and there.stamp != 0 and found[0] == there
