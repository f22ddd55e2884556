"""Opening a file of ours for reading: known names, plain storage, sizes that the file can hold.

HDF5 can point into other files (links, external storage, virtual datasets), hide gigabytes in a
few bytes (compression, unallocated chunks) and load plugins (unknown filters). None of that occurs
in our files, so whatever has it is refused before any data is read.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from . import durable, layout
from .errors import FeatureFileError, first_line
from .origin import Origin
from .provenance import Provenance

_KINDS = {
    layout.FORMAT: "headstart feature file",
    layout.UNIT_FORMAT: "unit of headstart work",
}
# An attribute sits in the object header, which HDF5 limits to 64 KiB a message.
_MAX_ATTRIBUTE_BYTES = 1 << 16


class AnotherVersion(FeatureFileError):
    """A file of ours in a version of its format that this headstart does not read."""

    def __init__(self, path: Path, found: int | None, read: int) -> None:
        self.versions = f"format version {found}; this headstart reads version {read}"
        super().__init__(
            f"{path}: {self.versions}; make it again with `headstart extract SOURCE -o {path} "
            f"--fresh`, or use the version of headstart that wrote it"
        )


@contextlib.contextmanager
def opened(
    path: Path, expected_format: str, *, sound: tuple[int, int, int] | None = None
) -> Iterator[h5py.File]:
    """Open `path` read-only, check what it is, and report damage met while it is read.

    A file that is missing, of another kind or version, holds anything it should not, lacks a
    dataset or fails a checksum while it is read is a FeatureFileError. What it holds is not checked
    again where its `durable.state` is still the one in which it was found `sound`.
    """
    kind = _KINDS[expected_format]
    if not os.path.exists(path):
        raise FeatureFileError(f"{path}: no such file; `headstart extract` makes feature files")
    if not os.path.isfile(path):
        raise FeatureFileError(f"{path}: is a folder or device, not a {kind}")
    try:
        # Locks fail on some network file systems; reading needs none, since a sealed file is
        # never written again.
        with h5py.File(path, "r", locking="best-effort") as file:
            _check_kind(file, path, kind, expected_format)
            if sound is None or durable.state(path) != sound:
                _check_content(file, path, expected_format)
            yield file
    except PermissionError as error:
        raise FeatureFileError(f"{path}: cannot be read: permission denied") from error
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if is_hdf5(path):
            raise FeatureFileError(f"{path}: damaged: {first_line(error)}") from error
        raise FeatureFileError(
            f"{path}: not a {kind} (not HDF5 at all); `headstart extract` makes them"
        ) from error


def replaceable(path: Path) -> bool:
    """Whether `path` is a feature file, be it of another version or damaged beyond opening."""
    if not is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            return text_attribute(file, layout.FORMAT_ATTRIBUTE) == layout.FORMAT
    except OSError:
        return True


def _check_kind(file: h5py.File, path: Path, kind: str, expected_format: str) -> None:
    if text_attribute(file, layout.FORMAT_ATTRIBUTE) != expected_format:
        raise FeatureFileError(
            f"{path}: an HDF5 file, but not a {kind}; `headstart extract` makes them"
        )
    version = _integer_attribute(file, layout.VERSION_ATTRIBUTE)
    if version != layout.VERSIONS[expected_format]:
        raise AnotherVersion(path, version, layout.VERSIONS[expected_format])


def _check_content(file: h5py.File, path: Path, expected_format: str) -> None:
    schema = layout.SCHEMAS[expected_format]
    found = set(file)
    if found != schema.keys():
        names = ", ".join(sorted(found ^ schema.keys()))
        raise FeatureFileError(f"{path}: damaged or foreign: missing or unknown names: {names}")
    unknown = set(file.attrs) - layout.ATTRIBUTES
    if unknown:
        raise FeatureFileError(f"{path}: foreign: unknown attributes: {', '.join(sorted(unknown))}")
    size = os.path.getsize(path)
    for name, column in schema.items():
        wrong = _what_is_wrong(file, name, column, size)
        if wrong:
            raise FeatureFileError(f"{path}: damaged or foreign: dataset {name!r} {wrong}")


def _what_is_wrong(file: h5py.File, name: str, column: layout.Column, file_size: int) -> str:
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        return "is a link to elsewhere"
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        return "is not a dataset"
    storage = dataset.id.get_create_plist()
    if storage.get_external_count() or dataset.is_virtual:
        return "is stored in another file"
    filters = {storage.get_filter(k)[0] for k in range(storage.get_nfilters())}
    if filters - {h5py.h5z.FILTER_FLETCHER32}:
        return "uses a filter that the format does not allow"
    if dataset.shape is None or dataset.ndim != len(column.shape) or len(dataset.attrs):
        return "is misshapen"
    if any(
        want is not None and have != want
        for have, want in zip(dataset.shape, column.shape, strict=True)
    ):
        return f"has the shape {dataset.shape}"
    if not column.takes(dataset.dtype):
        return f"has the type {dataset.dtype}"
    # Nothing is compressed, so no dataset can declare more than the file has.
    if int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize > file_size:
        return "declares more data than the file holds"
    return ""


def text_attribute(file: h5py.File, name: str) -> str:
    """A text attribute of the root group, or "" if it is missing, no text or overlong."""
    if not h5py.h5a.exists(file.id, name.encode()):
        return ""
    attribute = h5py.h5a.open(file.id, name.encode())
    plain = attribute.shape == () and attribute.dtype.kind in "SO"
    if not plain or attribute.get_storage_size() > _MAX_ATTRIBUTE_BYTES:
        return ""
    value = file.attrs[name]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def origin_of(file: h5py.File, name: str) -> Origin:
    """What made the vectors of a file, called `name` in messages; call it inside `opened`."""
    environment = json.loads(text_attribute(file, layout.ENVIRONMENT_ATTRIBUTE))
    if not isinstance(environment, dict):
        raise ValueError("the recorded environment is not a JSON object")  # noqa: TRY004
    provenance = Provenance.from_json(text_attribute(file, layout.PROVENANCE_ATTRIBUTE))
    return Origin(provenance, environment, file[layout.CANARY][()], name)


def _integer_attribute(file: h5py.File, name: str) -> int | None:
    """An integer attribute of the root group; None if it is missing or of another type."""
    if not h5py.h5a.exists(file.id, name.encode()):
        return None
    attribute = h5py.h5a.open(file.id, name.encode())
    if attribute.shape != () or attribute.dtype.kind not in "iu":
        return None
    return int(file.attrs[name])


def is_hdf5(path: Path) -> bool:
    """Whether `path` is a readable file that starts as HDF5 does."""
    with contextlib.suppress(OSError):
        return bool(h5py.is_hdf5(path))
    return False
