"""SHA-256 over what an object of any library is made of, the same in every process."""

import copyreg
import hashlib
import types
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

_PASSING: Final = frozenset({"_stop_words_id"})
"""Attributes that are of this process alone: scikit-learn notes where in memory a list lies."""

_PLAIN: Final = (bool, int, float, complex, type(None), type(Ellipsis))
_NAMED: Final = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
    np.ufunc,
)


class Unstable(Exception):
    """Why something has no digest that would be the same in another process."""


def digest(value: Any) -> str:
    """SHA-256 (hexadecimal) over a value: its numbers, texts and arrays, and their classes.

    Dictionaries and sets have no order. Functions and classes count by their names: what they do
    is told by the version of their library.

    Raises
    ------
    Unstable
        If there is a part of it that has no name and no content, as a lambda or an open file.
    """
    return _of(value, ()).hex()


def _of(value: Any, above: tuple[int, ...]) -> bytes:
    if isinstance(value, _PLAIN):
        return _hashed(type(value).__name__, repr(value).encode())
    if isinstance(value, str):
        return _hashed("str", value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes | bytearray):
        return _hashed("bytes", bytes(value))
    if isinstance(value, _NAMED):
        return _hashed("named", _name(value).encode())
    if id(value) in above:
        return _hashed("above", str(len(above) - above.index(id(value))).encode())
    above = (*above, id(value))
    if isinstance(value, np.ndarray | np.generic):
        return _array(np.asarray(value), above)
    kind = _name(type(value))
    if type(value) is dict:
        return _hashed(kind, *_pairs(value, above))
    if type(value) in (set, frozenset):
        return _hashed(kind, *sorted(_of(one, above) for one in value))
    if type(value) in (list, tuple):
        return _hashed(kind, *(_of(one, above) for one in value))
    return _hashed(kind, *_object(value, above))


def _object(value: Any, above: tuple[int, ...]) -> Iterable[bytes]:
    """What an object is made of, as it would be pickled."""
    try:
        reduce = copyreg.dispatch_table.get(type(value))
        parts = reduce(value) if reduce else value.__reduce_ex__(2)
    except Exception as error:  # a class may raise anything that it likes
        raise Unstable(f"a part of it, a {type(value).__name__}, has no content") from error
    if isinstance(parts, str):  # the name of something global
        yield parts.encode()
        return
    function, arguments, state, items, pairs = (*parts, None, None, None, None)[:5]
    yield _of(function, above)
    yield _of(arguments, above)
    state = state if isinstance(state, tuple) else (state,)
    for part in state:
        if isinstance(part, Mapping):
            yield from _pairs({k: part[k] for k in part if k not in _PASSING}, above)
        else:
            yield _of(part, above)
    yield _of(list(items or ()), above)
    yield from _pairs(dict(pairs or ()), above)


def _pairs(mapping: Mapping[Any, Any], above: tuple[int, ...]) -> list[bytes]:
    return sorted(_of(key, above) + _of(one, above) for key, one in mapping.items())


def _array(array: np.ndarray[Any, Any], above: tuple[int, ...]) -> bytes:
    head = f"{array.dtype.newbyteorder('<').str} {array.shape}".encode()
    if array.dtype.hasobject:
        return _hashed("array", head, *(_of(one, above) for one in array.ravel().tolist()))
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return _hashed("array", head, little.tobytes())


def _name(value: Any) -> str:
    name = str(getattr(value, "__qualname__", "") or getattr(value, "__name__", ""))
    if "<" in name or not name:
        raise Unstable(f"a part of it, {name or 'a ' + type(value).__name__}, has no lasting name")
    return f"{getattr(value, '__module__', '')}.{name}"


def _hashed(kind: str, *parts: bytes) -> bytes:
    total = hashlib.sha256()
    for part in (kind.encode(), *parts):
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.digest()
