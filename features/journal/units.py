"""Units: sealed pieces of extraction work, published one by one and read back on resume.

A unit holds the vectors of a few hundred images and, for every file that was looked at, what was
found there. It appears whole under its name or not at all, so a run that dies loses at most the
units in hand: one for each worker process, two without workers. FORMAT.md describes the file.
"""

import contextlib
import hashlib
import io
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from .. import durable, layout
from ..digest import ArrayDigest
from ..errors import FeatureFileError
from ..opening import (
    AnotherVersion,
    CannotRead,
    integer_attribute,
    opened,
    origin_of,
    text_attribute,
    whole,
)
from ..origin import Origin
from ..records import Key, SeenFile, keys, seen_files, table

UNIT_IMAGES: Final = 256
"""Images per unit, about half a minute of Xception on two cores: a killed run loses at most the
units in hand."""


ENDING: Final = ".units"


def folder_of(out: Path) -> Path:
    """Where the units of the feature file `out` are kept until it is sealed."""
    return out.with_name(out.name + ENDING)


def has_units(out: Path) -> bool:
    """Whether there is unfinished work for a feature file."""
    return any(folder_of(out).glob("*.h5"))


def publish(
    folder: Path,
    origin: Origin,
    files: Iterable[SeenFile],
    vectors: Mapping[Key, NDArray[np.floating]],
    turn: int = 1,
) -> Path:
    """Write one unit into `folder`, durably; what of it and under which name says `packed`."""
    name, image = packed(origin, files, vectors, turn)
    path = folder / name
    try:
        folder.mkdir(exist_ok=True)
        if not durable.publish(path, image):
            # The first to come did the same work, unless what stands there is damaged.
            try:
                Unit(path)
            except CannotRead:
                raise
            except FeatureFileError:
                path.unlink()
                durable.publish(path, image)
    except OSError as error:
        raise durable.cannot_write(folder, error) from error
    return path


def packed(
    origin: Origin,
    files: Iterable[SeenFile],
    vectors: Mapping[Key, NDArray[np.floating]],
    turn: int = 1,
) -> tuple[str, bytes]:
    """A unit of the files looked at and the vectors embedded: its name, and the bytes of its file.

    `turn` tells this run from those before it, see `Unit`. The name says all three, so that two
    processes doing the same work meet in one name, and no others do.
    """
    rows, provenance = table(files), origin.provenance
    augmentation = origin.augmentation
    shape = (len(vectors), provenance.dimension)
    digests = b"".join(digest for digest, _ in vectors)
    arrays: dict[str, NDArray[Any]] = {
        layout.FILES: rows,
        layout.FEATURES: np.array(list(vectors.values()), provenance.dtype).reshape(shape),
        layout.DIGESTS: np.frombuffer(digests, np.uint8).reshape(-1, layout.DIGEST_BYTES),
        layout.VIEWS: np.array([view for _, view in vectors], np.int16),
        layout.CANARY: origin.canary,
    }
    # The HDF5 library is known to crash the process when the disk fills under it, so the image
    # of the file is built in memory and written by plain system calls.
    image = io.BytesIO()
    with h5py.File(image, "w", libver=layout.HDF5_VERSION, locking=False) as file:
        layout.set_head(
            file,
            layout.UNIT_FORMAT,
            provenance.to_json(),
            augmentation.to_json(),
            origin.environment,
        )
        layout.set_text(file, layout.CONTENT_DIGEST_ATTRIBUTE, _content_digest(origin, arrays))
        file.attrs[layout.TURN_ATTRIBUTE] = turn
        for name, array in arrays.items():
            layout.create(file, name, array.shape, array.dtype)[...] = array
    # The keys too: a process that knows fewer contents gives more vectors to the same files.
    named_by = (
        f"{turn} {provenance.fingerprint} {augmentation.recipe}".encode() + rows.tobytes() + digests
    )
    named_by += arrays[layout.VIEWS].tobytes()
    return f"{hashlib.sha256(named_by).hexdigest()[:32]}.h5", image.getvalue()


class Unit:
    """A published unit, verified when it is opened; its vectors are read when asked for.

    Of two units that saw the same file, the one with the higher `turn` is right: it was made by a
    later run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path, layout.UNIT_FORMAT) as file:
            arrays = {name: whole(file, name, str(path)) for name in file}
            self.origin = origin_of(file, str(path))
            recorded = text_attribute(file, layout.CONTENT_DIGEST_ATTRIBUTE)
            self.turn = integer_attribute(file, layout.TURN_ATTRIBUTE) or 0
        if _content_digest(self.origin, arrays) != recorded:
            raise FeatureFileError(f"{path}: damaged: its content digest is wrong")
        if len({len(arrays[name]) for name in (layout.FEATURES, layout.DIGESTS, layout.VIEWS)}) > 1:
            raise FeatureFileError(f"{path}: damaged: its vectors and keys differ in number")
        self.files = seen_files(arrays[layout.FILES])
        self.keys = keys(arrays[layout.DIGESTS], arrays[layout.VIEWS])

    @property
    def has_views(self) -> bool:
        """Whether any vector is of an augmented view."""
        return any(view for _, view in self.keys)

    def features(self) -> NDArray[np.floating]:
        """The vectors, a row for each of `keys`."""
        with opened(self.path, layout.UNIT_FORMAT) as file:
            vectors: NDArray[np.floating] = file[layout.FEATURES][()]
        return vectors


def verified(folder: Path, before: Iterable[Unit] = ()) -> list[Unit]:
    """The undamaged units in `folder`, by turn; damaged ones are left out and done again.

    Those that were verified `before` are not read again; errors as of `one_by_one`.
    """
    return sorted(one_by_one(folder, before), key=lambda unit: unit.turn)


def one_by_one(folder: Path, before: Iterable[Unit] = ()) -> Iterator[Unit]:
    """The same in the order of their names; none of them is kept.

    If another version of headstart left some they are not damaged, and not deleted: that is an
    error. So is one that cannot be read now.
    """
    units = {unit.path: unit for unit in before}
    for path in sorted(folder.glob("*.h5")):
        try:
            yield units.get(path) or Unit(path)
        except AnotherVersion as error:
            raise FeatureFileError(
                f"{folder}: unfinished work of another version of headstart ({error.versions}); "
                f"finish it with that one, or delete the folder and run the same command again"
            ) from error
        except CannotRead:
            raise
        except FeatureFileError:
            continue


def of_files(
    folder: Path, turn: int, paths: Collection[bytes], passed_over: set[str]
) -> Unit | None:
    """The unit of a run that is of just these files; None if there is none.

    Names that are `passed_over` are not looked at; those of other runs are added to them.
    """
    for path in sorted(folder.glob("*.h5")):
        if path.name in passed_over:
            continue
        with contextlib.suppress(FeatureFileError):
            found = Unit(path)
            if found.turn != turn:
                passed_over.add(path.name)
            elif {file.path for file in found.files} == paths:
                return found
    return None


def discard(folder: Path, unwanted: Iterable[Unit]) -> list[str]:
    """Delete units, and whatever is damaged among the others in `folder`; the names of all."""
    names = [unit.path.name for unit in unwanted]
    for name in names:
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("*.h5"):
        try:
            Unit(path)
        except (AnotherVersion, CannotRead):
            continue
        except FeatureFileError:
            with contextlib.suppress(OSError):  # a folder, for one: not ours
                path.unlink()
                names.append(path.name)
    return names


def _content_digest(origin: Origin, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = ArrayDigest()
    digest.text(origin.provenance.to_json())
    digest.text(origin.augmentation.to_json())
    for name in sorted(arrays):
        digest.array(name, arrays[name])
    return digest.hexdigest()
