"""What every kind of provenance has: fields that are checked, canonical JSON, a fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from numpy.typing import NDArray

from ..errors import FeatureFileError
from ..layout import FEATURE_DTYPES

MOST_NUMBERS: Final = 1 << 24
"""In a vector: more than any backbone gives."""
LONGEST: Final = 1000
"""Characters of a text; those in use have up to about 120."""


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Recorded:
    """How the vectors of a file were made; each kind of it is a subclass with fields of its own."""

    kind: dataclasses.InitVar[str] = ""
    """Which subclass this is: no field, and taken so that what files have can be given as it is."""
    dimension: int
    dtype: str

    KIND: ClassVar[str]
    """What `kind` is of the subclass."""
    RANGES: ClassVar[Mapping[str, int]] = {"dimension": MOST_NUMBERS}
    """Fields that are numbers from 1, and their largest."""
    CHOICES: ClassVar[Mapping[str, Sequence[str]]] = {"dtype": FEATURE_DTYPES}
    """Fields that are one of a few texts."""
    LENGTHS: ClassVar[Mapping[str, int]] = {}
    """Fields that may have more characters than `LONGEST`."""

    def __post_init__(self, kind: str) -> None:
        """Refuse the fields of another kind."""
        if kind != self.KIND:
            raise unreadable(f"kind should be {self.KIND}, received {_short(repr(kind))}")

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII; equal provenances give equal bytes."""
        return json.dumps(self.declared, sort_keys=True, separators=(",", ":"))

    @property
    def declared(self) -> dict[str, Any]:
        """All that is recorded: the kind, and the fields."""
        return {"kind": self.KIND, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        FeatureFileError
            If a field is missing, unknown, of the wrong type or out of range.
        """
        return cls.checked(parsed(text))

    @classmethod
    def checked(cls, values: object) -> Self:
        """Take fields that were read from a file of anybody's.

        Raises
        ------
        FeatureFileError
            As `from_json` does.
        """
        fault = cls._fault(values)
        if fault:
            raise unreadable(fault)
        return cls(**values)  # type: ignore[arg-type]

    def takes(self, canary: NDArray[Any]) -> bool:
        """Whether (C, D) vectors of test images can be of this provenance; there may be none."""
        return canary.shape[1] == self.dimension and canary.dtype == self.dtype

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON (hexadecimal)."""
        return hashlib.sha256(self.to_json().encode("ascii")).hexdigest()

    @property
    def graph_digest(self) -> str:
        """SHA-256 of the quantised graph that a file of such vectors carries; "" if it has none."""
        return ""

    def worded(self, text: str) -> str:
        """A sentence on images, as one on what the rows are of."""
        return text

    @classmethod
    def _fault(cls, values: object) -> str:
        """Why values cannot be the fields of this kind; "" if they can."""
        if not isinstance(values, dict):
            return f"it is a {type(values).__name__}, not an object"
        if (kind := values.get("kind", cls.KIND)) != cls.KIND:
            return f"kind should be {cls.KIND}, received {_short(repr(kind))}"
        values = {name: value for name, value in values.items() if name != "kind"}
        fields = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        wrong = [str(name) for name in values.keys() ^ fields.keys()]
        if wrong:
            return f"fields are missing or unknown: {_short(', '.join(sorted(wrong)))}"
        for name, kind in fields.items():
            if type(values[name]).__name__ != kind:
                return f"{name} should be {kind}, received {_short(repr(values[name]))}"
            if kind == "str" and len(values[name]) > cls.LENGTHS.get(name, LONGEST):
                return f"{name} has {len(values[name])} characters"
        for name, most in cls.RANGES.items():
            if not 0 < values[name] <= most:
                return f"{name} should be 1 to {most}, received {_short(str(values[name]))}"
        for name, choices in cls.CHOICES.items():
            if values[name] not in choices:
                return f"{name} should be {' or '.join(choices)}, received {_short(values[name])}"
        return ""


def parsed(text: str) -> Any:
    """What a provenance as JSON says, unchecked; a FeatureFileError if it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable(error) from error


def unreadable(reason: object) -> FeatureFileError:
    """What to raise of a provenance that says something impossible."""
    return FeatureFileError(f"the recorded provenance cannot be read: {reason}")


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
