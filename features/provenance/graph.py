"""A quantised backbone as bytes: its graph, what it was made of, the digest that it is known by.

Nobody can make it again without the images that it was calibrated on, so feature files carry it.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import FeatureFileError, first_line
from ..origin import Origin, environment_fault

QUANTISED: Final = "quantised"
"""Kind of the weights of a backbone whose graph lies in a feature file."""

ABOUT: Final = "about.json"
XML: Final = "graph.xml"
CONSTANTS: Final = "graph.bin"
_MEMBERS: Final = (ABOUT, XML, CONSTANTS)

_MOST_ABOUT: Final = 1 << 16  # bytes
_DATE: Final = (1980, 1, 1, 0, 0, 0)
"""The first that a zip archive knows: equal graphs have equal bytes."""


@dataclasses.dataclass(frozen=True, repr=False)
class Graph:
    """A quantised backbone."""

    xml: bytes
    """The graph as OpenVINO describes one, without names, versions and paths."""
    constants: bytes
    """The numbers in it."""
    about: Mapping[str, Any]
    """What it was made of, for people and for the run that asks for the same again; no part of the
    digest. ``backbone``, ``size``, ``weights`` (the record of those that were quantised),
    ``weights_digest`` (theirs), ``images`` (how many calibrated it), ``others`` (how many more it
    was compared on), ``calibration`` (SHA-256 over the digests of all), ``cosine`` and ``least``
    (mean and least of the vectors of the others to those before), and the versions of ``nncf`` and
    ``openvino``."""

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the graph and its numbers (hexadecimal): the `weights_digest` of vectors."""
        total = hashlib.sha256()
        for part in (self.xml, self.constants):
            total.update(len(part).to_bytes(8, "little"))
            total.update(part)
        return total.hexdigest()

    def packed(self) -> bytes:
        """As one zip archive without compression."""
        file = io.BytesIO()
        about = json.dumps(self.about, sort_keys=True).encode("ascii")
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in zip(_MEMBERS, (about, self.xml, self.constants), strict=True):
                archive.writestr(zipfile.ZipInfo(name, _DATE), data)
        return file.getvalue()

    @classmethod
    def unpacked(cls, data: bytes, digest: str) -> "Graph":
        """Read what `packed` made.

        Raises
        ------
        FeatureFileError
            If it is none, or has another digest.
        """
        try:
            graph = cls._read(data)
        except Exception as error:  # zipfile raises nearly any on damaged bytes
            raise FeatureFileError(first_line(error)) from error
        if graph.digest != digest:
            raise FeatureFileError(f"its SHA-256 is {graph.digest}, not {digest}")
        return graph

    @classmethod
    def _read(cls, data: bytes) -> "Graph":
        if not data:
            raise ValueError("it is empty")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if tuple(one.filename for one in members) != _MEMBERS:
                raise ValueError("it is another archive")
            if any(one.compress_type != zipfile.ZIP_STORED for one in members):
                raise ValueError("it is compressed")
            if members[0].file_size > _MOST_ABOUT or sum(one.file_size for one in members) > len(
                data
            ):
                raise ValueError("it declares more than it holds")
            about, xml, constants = (archive.read(one) for one in members)
        said = json.loads(about)
        fault = environment_fault(said)
        if fault:
            raise ValueError(f"what is said of it {fault}")
        return cls(xml, constants, said)


def at_home(origin: Origin, file: str | Path) -> Origin:
    """The same; a quantised backbone is in the file that it was read in, wherever it was made."""
    recorded = origin.environment.get("weights", {})
    if recorded.get("kind") != QUANTISED:
        return origin
    with contextlib.suppress(FileNotFoundError):  # the working folder is gone
        weights = {**recorded, "path": str(file.absolute() if isinstance(file, Path) else file)}
        environment = {**origin.environment, "weights": weights}
        return dataclasses.replace(origin, environment=environment)
    return origin
