"""A model or layer of Keras, a backbone of keras-hub among them, as an encoder."""

import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ...features.child import once
from ...features.errors import WrongUsage
from ..backbones.weights import digest as weights_digest
from . import state
from .answers import NoVectors
from .state import Unstable

LIBRARIES: Final = ("keras", "keras-hub", "tensorflow")

PREPROCESSOR: Final = "preprocessor"

_SEQUENCE: Final = "sequence_output"
"""What backbones of keras-hub that give several arrays call the one of the tokens."""
_MASK: Final = "padding_mask"
"""What their preprocessors call the array that says which tokens there are."""

_PASSING: Final = frozenset({"shared_object_id", "compile_config", "build_config"})
"""Parts of a configuration that no vector depends on; the first is a place in memory."""
_NAMING: Final = ("name", "inbound_nodes", "input_layers", "output_layers")
"""Parts in which layers are named."""
_POLICY: Final = "DTypePolicy"


def takes(encoder: Any) -> bool:
    """Whether an encoder is of Keras; whoever has one has imported it."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(encoder, keras.Layer)


class Model:
    """Calls a model in inference mode with arrays, texts, or what a preprocessor makes of them.

    Where it gives an array a token, or a map, the vector is the mean over those there are.
    """

    def __init__(self, model: Any, preprocessor: Any = None) -> None:
        if not model.built:
            raise WrongUsage(
                f"encoder: the weights of {type(model).__name__} come into being when it is first "
                f"called; call it on a batch before"
            )
        if preprocessor is not None and not callable(preprocessor):
            raise WrongUsage(
                f"preprocessor: a function from a list of items to what the model takes is "
                f"expected; received a {type(preprocessor).__name__}"
            )
        self._model = model
        self._preprocessor = preprocessor

    @property
    def name(self) -> str:
        """Its class."""
        return type(self._model).__name__

    @property
    def revision(self) -> str:
        """The first digits of the digest of its weights."""
        return f"weights {self._weights[:12]}"

    @once
    def _weights(self) -> str:
        return weights_digest(self._model)

    def settings(self, said: Mapping[str, Any], *, stated: bool) -> dict[str, Any]:
        """Digests of its weights, its configuration and its preprocessor, unless that is `said`.

        What has none may be left out where it is `stated` which one it is.
        """
        found = {
            "pooling": "mean",
            "weights": self._weights,
            "config": _digest_of(self._model, stated=stated),
        }
        if self._preprocessor is not None and PREPROCESSOR not in said:
            found[PREPROCESSOR] = self._preprocessing(stated=stated)
        return {name: one for name, one in found.items() if one}

    def _preprocessing(self, *, stated: bool) -> str:
        if hasattr(self._preprocessor, "get_config"):
            return _digest_of(self._preprocessor, stated=stated)
        if stated:
            return ""
        raise WrongUsage(
            f"preprocessor: a {type(self._preprocessor).__name__} does not say what it does, and "
            f'vectors of two must never mix; give settings={{"{PREPROCESSOR}": "..."}}'
        )

    def __call__(self, items: Sequence[Any]) -> Any:
        """Vectors of items."""
        inputs = self._inputs(items)
        if hasattr(self._model, "predict_on_batch"):  # compiled once for each shape
            answer = self._model.predict_on_batch(inputs)
        else:
            answer = self._model(inputs, training=False)
        mask = inputs.get(_MASK) if isinstance(inputs, Mapping) else None
        return _pooled(_one_of(answer), mask)

    def _inputs(self, items: Sequence[Any]) -> Any:
        if self._preprocessor is not None:
            inputs = self._preprocessor(list(items))
            # Those of keras-hub give x alone, or x, labels and weights.
            return inputs[0] if isinstance(inputs, tuple) else inputs
        if isinstance(items[0], str):
            import keras

            return keras.ops.convert_to_tensor(list(items), dtype="string")
        return np.stack([np.asarray(one) for one in items])


def _one_of(answer: Any) -> Any:
    if isinstance(answer, Mapping):
        if _SEQUENCE in answer:
            return answer[_SEQUENCE]
        if len(answer) == 1:
            return next(iter(answer.values()))
        several = ", ".join(sorted(map(str, answer)))
    elif isinstance(answer, list | tuple):
        if len(answer) == 1:
            return answer[0]
        several = f"{len(answer)} without names"
    else:
        return answer
    raise NoVectors(
        f"encoder: the model gives several arrays ({several}); give a function that returns one of "
        f"them"
    )


def _pooled(answer: Any, mask: Any) -> Any:
    """(n, ..., D) -> (n, D): the mean over tokens, those that the mask has, or over a map."""
    import keras

    array = keras.ops.convert_to_numpy(answer)
    if array.ndim == 3:
        there = np.ones(array.shape[:2], bool)
        if mask is not None and np.shape(mask) == there.shape:
            there = keras.ops.convert_to_numpy(mask).astype(bool)
        array = np.where(there[..., None], array, 0).astype(np.float32)
        return array.sum(axis=1) / np.maximum(there.sum(axis=1, keepdims=True), 1)
    if array.ndim == 4:
        channels_first = keras.config.image_data_format() == "channels_first"
        return array.astype(np.float32).mean(axis=(2, 3) if channels_first else (1, 2))
    return array


def _digest_of(thing: Any, *, stated: bool) -> str:
    """SHA-256 of what something of Keras is configured to do; "" where that is stated instead."""
    import keras

    try:
        with warnings.catch_warnings(action="ignore"):  # of lambdas, which are not loaded here
            config = keras.saving.serialize_keras_object(thing)
        return state.digest([_canonical(config), [list(_learned(one)) for one in _parts(thing)]])
    except (Unstable, NotImplementedError, OSError, TypeError, ValueError) as error:
        if stated:
            return ""
        raise Unstable(f"the configuration of {type(thing).__name__} cannot be read") from error


def _parts(thing: Any) -> Iterator[Any]:
    """Something of Keras, and those inside that may have learned without having weights."""
    yield thing
    inner = [*(getattr(thing, "layers", None) or ()), getattr(thing, "tokenizer", None)]
    for one in inner:
        if one is not None and one is not thing:
            yield from _parts(one)


def _learned(thing: Any) -> Iterator[Any]:
    """Vocabularies are in no configuration and no weight: they are saved beside both."""
    if callable(getattr(thing, "get_vocabulary", None)):
        yield [str(one) for one in thing.get_vocabulary()]
    for name in ("merges", "proto"):  # of tokenizers by pairs of bytes, and by SentencePiece
        found = getattr(thing, name, None)
        if found is not None:
            yield found if isinstance(found, str | bytes) else [str(one) for one in found]


def _canonical(config: Any) -> Any:
    """A configuration without what differs from process to process.

    Keras numbers its layers anew in each (``dense_3``), so they are called by their order.
    """
    names: dict[str, str] = {}

    def collect(value: Any) -> None:
        if isinstance(value, Mapping):
            inner = value.get("config")
            if isinstance(inner, Mapping) and not str(value.get("class_name")).endswith(_POLICY):
                name = inner.get("name")
                if isinstance(name, str):
                    base = re.sub(r"_\d+$", "", name)
                    names.setdefault(name, f"{base}#{len(names)}")
            for one in value.values():
                collect(one)
        elif isinstance(value, list | tuple):
            for one in value:
                collect(one)

    def renamed(value: Any, *, naming: bool = False) -> Any:
        if isinstance(value, Mapping):
            return {
                key: renamed(one, naming=naming or key in _NAMING)
                for key, one in value.items()
                if key not in _PASSING
            }
        if isinstance(value, list | tuple):
            return [renamed(one, naming=naming) for one in value]
        return names.get(value, value) if naming and isinstance(value, str) else value

    collect(config)
    return renamed(config)
