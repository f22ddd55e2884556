"""What a feature file records -> the commands that make it again, as a shell takes them."""

import os
import shlex
from collections.abc import Iterator
from typing import Final

from ..extract.backbones.weights import FILE, QUANTISED
from ..features.errors import encodable
from ..features.provenance.augmentation import TRAINING
from ..features.provenance.given import NO_SETTINGS, Given
from ..features.store import FeatureStore

_PLAIN: Final = frozenset(range(0x20, 0x7F)) - set(b"'\\")
"""Bytes that bash's ``$'...'`` takes as they are."""


VECTORS: Final = "vectors"
"""In the environment of a file of given vectors: the file that they were imported from."""


def made_by(store: FeatureStore) -> list[str]:
    """What follows ``headstart`` to make a feature file again; nothing, if Python made it."""
    made, environment = store.provenance, store.environment
    source = str(environment.get("source") or "SOURCE")
    if not isinstance(made, Given):
        return ["extract", *extract_words(store, source)]
    if not environment.get(VECTORS):
        return []
    words = ["import", quoted(str(environment[VECTORS]))]
    if environment.get("source"):
        words += ["--list", quoted(source)]
    words += ["-o", quoted(store.name), "--encoder", quoted(made.encoder)]
    for option, value, usual in (
        ("--revision", made.revision, ""),
        ("--settings", made.settings, NO_SETTINGS),
        ("--dtype", made.dtype, "float32"),
    ):
        words += [option, quoted(value)] if value != usual else []
    return words


def extract_words(store: FeatureStore, source: str | os.PathLike[str]) -> Iterator[str]:
    """What follows ``headstart extract`` to make, or go on with, a feature file from a source."""
    made = store.origin.of_images("be extracted")
    weights = store.environment.get("weights") or {}
    yield from (quoted(source), "-o")
    yield from (quoted(store.name), "--backbone", quoted(made.backbone))
    if weights:
        where = weights.get("path") if weights["kind"] in (FILE, QUANTISED) else weights["kind"]
        yield from ("--weights", quoted(str(where)))
    yield from ("--size", str(made.size))
    for option, value, usual in (
        ("--fit", made.fit, "stretch"),
        ("--precision", made.precision, "f32"),
        ("--dtype", made.dtype, "float32"),
    ):
        if value != usual:
            yield from (option, quoted(value))
    views = store.augmentation
    if views.views > 1:
        yield from ("--views", str(views.views), "--augment", quoted(views.changes))
        if views.of != TRAINING:
            yield from ("--views-of", views.of)


def quoted(word: str | os.PathLike[str]) -> str:
    """A word of a command, so that a shell takes it for what it is.

    Bytes that are no text, and what no page shows as it is, are spelled as bash understands it.
    """
    text = os.fspath(word)
    if text.startswith("-") and text != "-":  # a file, not an option
        text = f"./{text}"
    if encodable(text) == text:
        return shlex.quote(text)
    data = text.encode("utf-8", "surrogateescape" if _is_file(text) else "surrogatepass")
    return "$'" + "".join(chr(one) if one in _PLAIN else f"\\x{one:02x}" for one in data) + "'"


def _is_file(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
