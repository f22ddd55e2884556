"""Vectors that somebody else made, and said how: provenance of the kind `given`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from ..errors import WrongUsage
from .recorded import LONGEST, Recorded

GIVEN: Final = "given"
_IMAGE: Final = re.compile(r"(?<![\w'\"-])image(?=s?\b)")
"""The word, and not a class of that name, which is in quotes."""
_SHA256: Final = re.compile("[0-9a-f]{64}")
NO_SETTINGS: Final = "{}"
MOST_SETTINGS: Final = 20_000
"""Characters: an attribute of HDF5 has 65,536 bytes, and the JSON of it is quoted once more."""


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Given(Recorded):
    """How vectors were made by whatever is no backbone of headstart, as far as the user says it.

    Nothing of it can be checked but the length of a vector, so the user vouches for it: vectors
    that are said to be made alike are mixed, and heads applied to them.

    Attributes
    ----------
    encoder : str
        The name of what made the vectors.
    revision : str
        Which one of those that have the name; empty if it is not known.
    settings : str
        Canonical JSON of an object: all else that can change a vector, as the user states it.
    settings_digest : str
        SHA-256 of `settings` (hexadecimal), or of whatever an encoder has for settings.
    dimension : int
        Length of a vector.
    dtype : str
        dtype of the stored vectors: ``"float32"`` or ``"float16"``.
    """

    kind: dataclasses.InitVar[str] = GIVEN
    encoder: str
    revision: str
    settings: str
    settings_digest: str

    KIND: ClassVar = GIVEN
    LENGTHS: ClassVar = {"settings": MOST_SETTINGS}

    @classmethod
    def of(
        cls,
        encoder: str,
        revision: str = "",
        settings: Mapping[str, Any] | None = None,
        *,
        dimension: int,
        dtype: str = "float32",
        settings_digest: str = "",
    ) -> Given:
        """What a user says of an encoder.

        Parameters
        ----------
        encoder, revision : str
            Its name, and which one of that name.
        settings : mapping, optional
            What JSON can say: all else that can change a vector.
        dimension, dtype
            Of the vectors.
        settings_digest : str, optional
            SHA-256, hexadecimal, where that says more than the settings do; by default theirs.

        Raises
        ------
        WrongUsage
            If it is no name or no digest, or JSON cannot say the settings.
        """
        for name, text in (("encoder", encoder), ("revision", revision)):
            if not isinstance(text, str) or not text.isprintable() or len(text) > LONGEST:
                raise WrongUsage(
                    f"{name} {text!a:.80}: a text of one line is expected, of at most "
                    f"{LONGEST:,} characters"
                )
        if not encoder.strip():
            raise WrongUsage(
                "encoder '': what made the vectors needs a name, so that others never mix with them"
            )
        said = canonical({} if settings is None else settings)
        digest = settings_digest or hashlib.sha256(said.encode("ascii")).hexdigest()
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise WrongUsage(
                f"settings_digest {settings_digest!a:.80}: a SHA-256 is expected, 64 hexadecimal "
                f"digits in lower case"
            )
        return cls(
            encoder=encoder,
            revision=revision,
            settings=said,
            settings_digest=digest,
            dimension=dimension,
            dtype=dtype,
        )

    def __repr__(self) -> str:
        return f"Given({self.maker}, {self.dimension:,} numbers, {self.dtype})"

    @property
    def maker(self) -> str:
        """What made the vectors, in a few words."""
        return f"{self.encoder} {self.revision}".strip()

    @property
    def role(self) -> str:
        """What `maker` is."""
        return "encoder"

    @property
    def noun(self) -> str:
        """What a row is of."""
        return "example"

    @property
    def remedy(self) -> str:
        """What to do where a file does not fit a head of such vectors."""
        return (
            "Have the vectors made by the encoder of the head (`headstart info HEAD`), or train a "
            "head on this file."
        )

    @property
    def labelling(self) -> str:
        """How examples get labels."""
        return (
            "give labels with the vectors (`headstart import --list` with a 'label' column; in "
            "Python labels=), and make the same call again (no vector is made twice)"
        )

    def worded(self, text: str) -> str:
        """A sentence on images, as one on what the rows are of."""
        text = text.replace("files of the same bytes", "examples of equal vectors")
        return _IMAGE.sub("example", text)


def canonical(settings: Mapping[str, Any]) -> str:
    """Settings as canonical JSON: sorted keys, no spaces, ASCII.

    Raises
    ------
    WrongUsage
        If they are no mapping that JSON can say.
    """
    try:
        if not isinstance(settings, Mapping):
            raise TypeError(f"it is a {type(settings).__name__}, not a mapping")
        said = json.dumps(dict(settings), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise WrongUsage(
            f"settings: JSON cannot say them ({error}); give names with texts and numbers, as "
            f"{{'layer': -1}}"
        ) from error
    if len(said) > MOST_SETTINGS:
        raise WrongUsage(
            f"settings: {len(said):,} characters as JSON, at most {MOST_SETTINGS:,}; give their "
            f"digest instead"
        )
    return said
