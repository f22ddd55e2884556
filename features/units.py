"""Units: sealed pieces of extraction work, published one by one and read back on resume.

A unit holds the vectors of a few hundred images and, for every file that was looked at, what was
found there. It appears whole under its name or not at all, so a run that dies loses at most the
unit that each of its workers was computing. FORMAT.md describes the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np

from . import durable, layout
from .digest import ArrayDigest
from .errors import FeatureFileError
from .opening import environment_of, opened, text_attribute
from .provenance import Provenance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Origin:
    """What made vectors, and what proves it; it travels with them.

    Attributes
    ----------
    provenance : Provenance
        Everything that can change a vector.
    environment : mapping of str to Any
        Machine, libraries, source and times; recorded, not compared.
    canary : ndarray of shape (C, D)
        Vectors of the test images.
    """

    provenance: Provenance
    environment: Mapping[str, Any]
    canary: NDArray[np.floating]


@dataclasses.dataclass(frozen=True)
class SeenFile:
    """What one image file was found to be.

    Attributes
    ----------
    path : bytes
        Relative to the source, as the file system gave it.
    size, mtime_ns : int
        Bytes and modification time, when it was read.
    digest : bytes
        SHA-256 of its bytes; all zeros if it could not be read.
    width, height : int
        In pixels, upright; 0 if it could not be decoded.
    reason : str
        Why it was skipped; empty if it was not.
    """

    path: bytes
    size: int
    mtime_ns: int
    digest: bytes
    width: int
    height: int
    reason: str = ""


UNIT_IMAGES: Final = 256
"""Images a unit: the most that a killed run loses for each of its workers, about half a minute of
Xception on two cores."""

UNREAD = bytes(layout.DIGEST_BYTES)
"""Digest of a file whose bytes could not be had: such a file is tried again by every run."""


def table(files: Iterable[SeenFile]) -> NDArray[np.void]:
    """Pack seen files into an array of `layout.files_dtype`."""
    files = list(files)
    longest_path = max((len(file.path) for file in files), default=0)
    reasons = [file.reason.encode("utf-8") for file in files]
    rows = [
        (
            file.path,
            np.frombuffer(file.digest, np.uint8),
            file.size,
            file.mtime_ns,
            file.width,
            file.height,
            reason,
        )
        for file, reason in zip(files, reasons, strict=True)
    ]
    dtype = layout.files_dtype(longest_path, max(map(len, reasons), default=0))
    return np.array(rows, dtype)


def seen_files(rows: NDArray[np.void]) -> list[SeenFile]:
    """Unpack what `table` packed."""
    return [
        SeenFile(path, size, mtime_ns, digest.tobytes(), width, height, reason.decode("utf-8"))
        for path, digest, size, mtime_ns, width, height, reason in zip(
            rows["path"].tolist(),
            rows["digest"],
            rows["size"].tolist(),
            rows["mtime_ns"].tolist(),
            rows["width"].tolist(),
            rows["height"].tolist(),
            rows["reason"].tolist(),
            strict=True,
        )
    ]


def folder_of(out: Path) -> Path:
    """Where the units of the feature file `out` are kept until it is sealed."""
    return out.with_name(out.name + ".units")


def publish(
    folder: Path,
    origin: Origin,
    files: Iterable[SeenFile],
    vectors: Mapping[bytes, NDArray[np.floating]],
) -> Path:
    """Write one unit into `folder`, durably.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    origin : Origin
        As the sealed file will hold it.
    files : iterable of SeenFile
        Every file this unit looked at.
    vectors : mapping of bytes to ndarray of shape (D,)
        Image digest -> vector, for the images this unit embedded.

    Returns
    -------
    Path
        Named by what was looked at and embedded, so that two processes doing the same work meet in
        one name, and no others do.

    Raises
    ------
    FeatureFileError
        If the disk is full, or fails.
    """
    rows, provenance = table(files), origin.provenance
    shape = (len(vectors), provenance.dimension)
    features = np.array(list(vectors.values()), dtype=provenance.dtype).reshape(shape)
    digests = np.frombuffer(b"".join(vectors), np.uint8).reshape(-1, layout.DIGEST_BYTES)
    arrays = {
        layout.FILES: rows,
        layout.FEATURES: features,
        layout.DIGESTS: digests,
        layout.CANARY: origin.canary,
    }
    # The HDF5 library is known to crash the process when the disk fills under it, so the image
    # of the file is built in memory and written by plain system calls.
    image = io.BytesIO()
    with h5py.File(image, "w", libver=layout.HDF5_VERSION) as file:
        layout.set_head(file, layout.UNIT_FORMAT, provenance.to_json(), origin.environment)
        layout.set_text(file, layout.CONTENT_DIGEST_ATTRIBUTE, _content_digest(provenance, arrays))
        for name, array in arrays.items():
            layout.create(file, name, array.shape, array.dtype)[...] = array
    # The digests too: whoever knows fewer contents gives more vectors to the same files.
    content = provenance.fingerprint.encode(), rows.tobytes(), digests.tobytes()
    identity = hashlib.sha256(b"".join(content)).hexdigest()
    path = folder / f"{identity[:32]}.h5"
    try:
        folder.mkdir(exist_ok=True)
        if not durable.publish(path, image.getvalue()):
            # Whoever came first did the same work; unless what stands there is damaged.
            try:
                Unit(path)
            except FeatureFileError:
                path.unlink()
                durable.publish(path, image.getvalue())
    except OSError as error:
        raise durable.cannot_write(folder, error) from error
    return path


class Unit:
    """A published unit, verified when it is opened; its vectors are read when asked for.

    Attributes
    ----------
    path : Path
        Where it is; no other content has this name.
    origin : Origin
        What made the vectors.
    files : list of SeenFile
        What was looked at.
    digests : list of bytes
        Of the images whose vectors it has, a row each.

    Raises
    ------
    FeatureFileError
        If the file is damaged: then it counts as never published.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path, layout.UNIT_FORMAT) as file:
            provenance = Provenance.from_json(text_attribute(file, layout.PROVENANCE_ATTRIBUTE))
            environment = environment_of(file)
            arrays = {name: file[name][()] for name in file}
            recorded = text_attribute(file, layout.CONTENT_DIGEST_ATTRIBUTE)
        if _content_digest(provenance, arrays) != recorded:
            raise FeatureFileError(f"{path}: damaged: its content digest is wrong")
        self.origin = Origin(provenance, environment, arrays[layout.CANARY])
        self.files = seen_files(arrays[layout.FILES])
        self.digests: list[bytes] = [row.tobytes() for row in arrays[layout.DIGESTS]]

    def features(self) -> NDArray[np.floating]:
        """The vectors, (number of digests, D)."""
        with opened(self.path, layout.UNIT_FORMAT) as file:
            vectors: NDArray[np.floating] = file[layout.FEATURES][()]
        return vectors


def verified(folder: Path, before: Iterable[Unit] = ()) -> list[Unit]:
    """The undamaged units in `folder`, by name; damaged ones are left out and done again.

    Those that were verified `before` are not read again.
    """
    units = {unit.path: unit for unit in before}
    found = []
    for path in sorted(folder.glob("*.h5")):
        with contextlib.suppress(FeatureFileError):
            found.append(units.get(path) or Unit(path))
    return found


def discard(folder: Path, unwanted: Iterable[Unit]) -> None:
    """Delete units, and whatever is damaged among the others in `folder`."""
    for unit in unwanted:
        unit.path.unlink(missing_ok=True)
    for path in folder.glob("*.h5"):
        try:
            Unit(path)
        except FeatureFileError:
            path.unlink(missing_ok=True)


def _content_digest(provenance: Provenance, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = ArrayDigest()
    digest.text(provenance.to_json())
    for name in sorted(arrays):
        digest.array(name, arrays[name])
    return digest.hexdigest()
