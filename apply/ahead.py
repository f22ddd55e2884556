"""While a head is loaded, so is the backbone that it needs, which is remembered by its digest."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..extract import cache, engines
from ..extract.backbones.weights import sha256
from ..extract.embedding import Embedding
from ..features import child, durable
from ..features.errors import HeadstartError
from ..features.journal import seal
from ..features.origin import Origin, environment_fault
from ..features.provenance import Provenance

if TYPE_CHECKING:
    from ..classify.head import Head

_MOST_BYTES: Final = 1 << 16
_UNREADABLE: Final = (OSError, HeadstartError, ValueError, KeyError, TypeError, RecursionError)


class Ahead:
    """A backbone that is being loaded by a thread, if it is known which one a head needs."""

    def __init__(self, head: Path, weights: str | os.PathLike[str] | None, engine: str) -> None:
        self._note = cache.folder("heads") / f"{sha256(head)}.json"
        self._loaded: Future[Embedding] | None = None
        self._origin = _read(self._note)
        if self._origin is None:
            return
        cache.use(self._note)
        embedding = Embedding.of(self._origin, weights=weights, engine=engine)
        # Nothing is worth waiting for that takes TensorFlow: it may not be needed after all.
        if engines.ready(embedding.request, engine):
            seal.prepare()
            thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
            self._loaded = thread.submit(_load, embedding)
            thread.shutdown(wait=False)

    def of(self, embedding: Embedding) -> Embedding:
        """`embedding`, which a loaded head needs: loaded, if it is the one that was remembered."""
        # If not, the next time takes longer, that is all.
        with contextlib.suppress(OSError, HeadstartError):
            self._remember(embedding.must_fit)
        if self._loaded is None:
            return embedding
        # What is wrong is found, and said, by whoever loads it next.
        with contextlib.suppress(Exception):
            early = self._loaded.result()
            if early.request == embedding.request:
                early.must_fit = embedding.must_fit
                return early
        return embedding

    def _remember(self, needed: Origin | None) -> None:
        if needed is None:
            return
        known = self._origin
        if known is None or _noted(known) != _noted(needed):
            self._note.parent.mkdir(parents=True, exist_ok=True)
            with durable.written(self._note) as temporary:
                temporary.write_text(json.dumps(_noted(needed)), "ascii")


@contextlib.contextmanager
def loading(
    head: Head | str | os.PathLike[str], weights: str | os.PathLike[str] | None, engine: str
) -> Iterator[Ahead | None]:
    """Load, in this context, the backbone that a head file is known to need."""
    found = None
    try:
        if isinstance(head, str | os.PathLike) and os.path.isfile(head):
            # Whatever is wrong with the arguments is said where they are used.
            with contextlib.suppress(Exception):
                found = Ahead(Path(head), weights, engine)
        yield found
    finally:
        child.dismiss()


def _load(embedding: Embedding) -> Embedding:
    _ = embedding.provenance, embedding.canary_calls
    return embedding


def _read(note: Path) -> Origin | None:
    """The origin of a head, as far as its backbone goes."""
    try:
        with note.open("rb") as file:
            known = json.loads(file.read(_MOST_BYTES))
        provenance, environment = Provenance.checked(known["provenance"]), known["environment"]
        if environment_fault(environment):
            return None
    except _UNREADABLE:
        return None
    return Origin(provenance, environment, np.empty((0, provenance.dimension), np.float32))


def _noted(origin: Origin) -> dict[str, Any]:
    """What is remembered of an origin: which backbone it is, and where its weights are."""
    environment = {"weights": origin.environment.get("weights", {})}
    return {"provenance": json.loads(origin.provenance.to_json()), "environment": environment}
