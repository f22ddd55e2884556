"""Items, one after the other -> published units; what is known is not embedded again."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...features.errors import ProvenanceMismatch
from ...features.journal import units
from ...features.journal.known import Known
from ...features.journal.outputs import Output
from ...features.layout import MOST_TEXT
from ...features.origin import Origin
from ...features.provenance.environment import now
from ...features.records import AGAIN, UNREAD, Key, Listed, SeenFile
from ..work.progress import Progress
from .answers import Asking, Failure
from .encoder import Encoder
from .items import Item

UNIT_SECONDS: float = 20.0
"""A unit is published after so long, or with the batch that takes longer: no more is lost with a
run that is killed. (Writing one takes some milliseconds.)"""
UNIT_ITEMS: int = 4096
"""Fewer files where an encoder is fast; the vectors of a unit are in memory until it is written."""
_UNIT_BYTES: Final = 32 << 20

_PROBES: Final = 4
"""Known items that are embedded again before new ones."""
_TINY: Final = 1e-30


class Making:
    """The part of a call that goes through the items."""

    def __init__(
        self,
        known: Known,
        encoder: Encoder,
        asking: Asking,
        *,
        dtype: str,
        tolerance: float,
        environment: Mapping[str, Any],
        shown: Progress,
    ) -> None:
        self.listed: list[Listed] = []
        """Every item so far, for sealing."""
        self.contents: set[bytes] = set()
        """Their digests."""
        self.embedded: set[bytes] = set()
        """Those whose vectors were computed here."""
        self.seconds = 0.0
        """That the encoder took."""
        self._known, self._encoder, self._asking = known, encoder, asking
        self._dtype, self._tolerance = dtype, tolerance
        self._environment, self._shown = environment, shown
        self._output = Output.at(known.out)
        self._folder = units.folder_of(known.out)
        self._pending: dict[bytes, Any] = {}
        self._waiting = 0
        self._failed: dict[bytes, Failure] = {}
        self._files: list[SeenFile] = []
        self._vectors: dict[Key, NDArray[np.floating]] = {}
        self._began = time.monotonic()
        self._probes: dict[bytes, Any] = {}
        self._alike = known.origin is None
        self._unproven: list[Path] = []

    def take(self, item: Item) -> None:
        """Look at the next item; when there is a batch of new ones, have it embedded."""
        # Only the beginning of a long text is kept.
        text = item.value[: MOST_TEXT + 1] if isinstance(item.value, str) else None
        self.listed.append(Listed(item.stat, item.label, item.split, item.group, text))
        self._look(item)
        if len(self._pending) >= self._asking.batch or len(self._files) >= UNIT_ITEMS:
            self._embed()

    def finish(self) -> None:
        """Embed and publish what is left."""
        self._embed()
        if self.embedded or self._failed:
            self._require_alike()
        self._publish(ending=True)

    @property
    def first_failure(self) -> str:
        """The id of an item that could not be embedded, and why; empty if there is none."""
        found = (self._found(file) for file in self._files)
        first = next((file for file in found if file.reason), None)
        if first is None:
            return ""
        return f"{first.path.decode('utf-8', 'backslashreplace')}: {first.reason}"

    def _look(self, item: Item) -> None:
        if item.reason:
            self._files.append(SeenFile(item.stat, UNREAD, 0, 0, item.reason))
            if (last := self._known.last(item.stat.path)) is not None:
                self.contents.add(last.digest)
            self._shown.add(1)
            return
        self.contents.add(item.digest)
        seen = self._known.seen(item.stat)
        if seen is None or seen.digest != item.digest:
            self._files.append(SeenFile(item.stat, item.digest, 0, 0))
            if self._is_new(item.digest):
                self._pending.setdefault(item.digest, item.value)
                self._waiting += 1
                return
        elif seen.reason:
            self._shown.add(1)
            return
        if len(self._probes) < _PROBES and self._known.image(item.digest) is not None:
            self._probes.setdefault(item.digest, item.value)
        self._shown.add(1)

    def _is_new(self, digest: bytes) -> bool:
        met = digest in self.embedded or digest in self._failed
        return not met and self._known.image(digest) is None

    def _embed(self) -> None:
        if self._pending:
            self._require_alike()
            answers = self._asked(list(self._pending.values()))
            for digest, answer in zip(self._pending, answers, strict=True):
                if isinstance(answer, Failure):
                    self._failed[digest] = answer
                else:
                    self._vectors[digest, 0] = answer
                    self.embedded.add(digest)
            self._pending.clear()
            self._shown.add(self._waiting)
            self._waiting = 0
        if (
            len(self._files) >= UNIT_ITEMS
            or sum(vector.nbytes for vector in self._vectors.values()) >= _UNIT_BYTES
            or time.monotonic() - self._began >= UNIT_SECONDS
        ):
            self._publish()

    def _asked(self, values: list[Any]) -> list[NDArray[np.floating] | Failure]:
        started = time.perf_counter()
        try:
            return self._asking.ask(values)
        finally:
            self.seconds += time.perf_counter() - started

    def _publish(self, *, ending: bool = False) -> None:
        self._began = time.monotonic()
        dimension = self._asking.dimension
        if not self._files or dimension is None:  # nothing has a vector yet
            return
        # Nothing is called broken that an encoder failed on because it was broken itself.
        if not ending and not self._asking.proven:
            return
        self._asking.require_alive()
        origin = Origin(
            self._encoder.given(dimension, self._dtype),
            {**self._environment, "extracted": now()},
            np.empty((0, dimension), self._dtype),
        )
        files = [self._found(file) for file in self._files]
        path = units.publish(self._folder, origin, files, self._vectors, self._known.turn)
        self._output.push(path)
        if not self._alike:
            self._unproven.append(path)
        self._files, self._vectors = [], {}

    def _found(self, file: SeenFile) -> SeenFile:
        """What is recorded of an item that has been embedded, or could not be."""
        why = self._failed.get(file.digest)
        if why is None:
            return file
        return file._replace(digest=UNREAD if why.endswith(AGAIN) else file.digest, reason=str(why))

    def _require_alike(self) -> None:
        """Refuse an encoder that gives other vectors of what is known than it gave."""
        if self._alike or not self._probes:
            return
        stored = self._known.vectors([(digest, 0) for digest in self._probes])
        given = self._asked(list(self._probes.values()))
        wrong = max(map(self._apart, given, stored, self._probes))
        if wrong <= self._tolerance:
            self._alike = True
            return
        # Published before there was anything known to compare by.
        for path in self._unproven:
            path.unlink(missing_ok=True)
        self._output.drop([path.name for path in self._unproven])
        raise ProvenanceMismatch(
            f"{self._known.out}: {self._encoder.name} gives other vectors than it gave for the "
            f"same items: relative distance {wrong:.2g}, at most {self._tolerance:g} is allowed "
            f"(tolerance=). If it is another one, say so by revision=; if it draws at random, "
            f"switch that off. {self._known.remedy}"
        )

    def _apart(
        self, ours: NDArray[np.floating] | Failure, theirs: NDArray[np.floating], digest: bytes
    ) -> float:
        if isinstance(ours, Failure):
            raise ProvenanceMismatch(
                f"{self._known.out}: {self._encoder.name} does not embed {digest.hex()[:12]}... "
                f"again, which it did embed: {ours}. {self._known.remedy}"
            )
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        if a.shape != b.shape:
            return float("inf")
        longest = max(float(np.linalg.norm(a)), float(np.linalg.norm(b)), _TINY)
        return float(np.linalg.norm(a - b)) / longest
