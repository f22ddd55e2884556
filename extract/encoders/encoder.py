"""What a user embeds with -> a function of a batch, and what can be known of it."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ...features.errors import ProvenanceMismatch, WrongUsage, listed
from ...features.origin import Origin
from ...features.provenance.given import Given, canonical
from . import keras, sklearn
from .state import Unstable

_A_NUMBER: Final = 1
"""Stands for the length of a vector as long as no vector has come."""
_DECLARED: Final = ("kind", "encoder", "revision", "dtype")


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A function from a list of items to their vectors, and what changes these."""

    call: Callable[[Sequence[Any]], Any]
    name: str
    revision: str
    settings: Mapping[str, Any]
    """What JSON can say, the digests of what it cannot say among them."""
    libraries: Sequence[str] = ()
    """Whose versions are recorded."""

    def given(self, dimension: int, dtype: str) -> Given:
        """What is recorded with its vectors."""
        return Given.of(self.name, self.revision, self.settings, dimension=dimension, dtype=dtype)

    def require_fits(self, origin: Origin, dtype: str) -> None:
        """Refuse, before anything is embedded, to add to vectors that are known to be others.

        Raises
        ------
        ProvenanceMismatch
            The message names what differs; of settings their names.
        """
        mine = self.given(_A_NUMBER, dtype).declared
        origin.require_declared({name: mine[name] for name in _DECLARED})
        theirs = origin.provenance.declared
        if mine["settings_digest"] != theirs["settings_digest"]:
            one, other = (json.loads(said["settings"]) for said in (mine, theirs))
            named = [
                name for name in sorted({*one, *other}) if one.get(name) != other.get(name)
            ] or ["settings_digest"]
            raise ProvenanceMismatch(
                f"{origin.name} does not fit this run: settings of {self.name} differ, in "
                f"{listed(named)}. {origin.remedy}"
            )

    def fits(self, origin: Origin, dtype: str) -> bool:
        """Whether `require_fits` would let the vectors pass."""
        try:
            self.require_fits(origin, dtype)
        except ProvenanceMismatch:
            return False
        return True


def described(
    encoder: Any,
    *,
    name: str | None = None,
    revision: str | None = None,
    settings: Mapping[str, Any] | None = None,
    preprocessor: Any = None,
) -> Encoder:
    """What an encoder is, as far as it says so itself; what the user says of it comes first.

    Raises
    ------
    WrongUsage
        If it is nothing that embeds, or neither says what it is.
    """
    said = {} if settings is None else settings
    canonical(said)  # refused if it cannot be recorded
    try:
        found = _found(encoder, preprocessor, said, revision)
    except Unstable as error:
        raise WrongUsage(
            f"encoder: {error}, so that nobody could tell tomorrow whether it is the same "
            f'{type(encoder).__name__}; say which one it is by revision="..."'
        ) from error
    lacking = [
        f'{what}="..."'
        for what, one in (("name", name or found.name), ("revision", revision or found.revision))
        if not one
    ]
    if lacking:
        raise WrongUsage(
            f"encoder: {_called(encoder)} does not say what it is, and vectors of two encoders "
            f"must never mix; give {' and '.join(lacking)}"
        )
    return dataclasses.replace(
        found,
        name=name or found.name,
        revision=revision or found.revision,
        settings={**said, **found.settings},
    )


def _found(
    encoder: Any, preprocessor: Any, said: Mapping[str, Any], revision: str | None
) -> Encoder:
    if keras.takes(encoder):
        model = keras.Model(encoder, preprocessor)
        settings = model.settings(said, stated=bool(revision))
        return Encoder(model, model.name, model.revision, settings, keras.LIBRARIES)
    if preprocessor is not None:
        raise WrongUsage(
            "preprocessor: only a Keras model has one apart; let the function that embeds call it"
        )
    if sklearn.takes(encoder):
        transformer = sklearn.Transformer(encoder)
        settings = transformer.settings(stated=bool(revision))
        return Encoder(
            transformer, transformer.name, transformer.revision, settings, sklearn.LIBRARIES
        )
    if isinstance(encoder, type) or not callable(encoder):
        raise WrongUsage(
            f"encoder: a function from a list of items to vectors, a Keras model or a fitted "
            f"scikit-learn transformer is expected; received {_called(encoder)}"
        )
    return Encoder(encoder, "", "", {})


def _called(encoder: Any) -> str:
    if isinstance(encoder, type):
        return f"the class {encoder.__name__} (give an instance of it)"
    return f"{getattr(encoder, '__name__', None) or 'a ' + type(encoder).__name__}"
