"""What the page asks over HTTP, as plain calls: the values of a request in, an answer out."""

import collections
import dataclasses
import functools
import json
import os
import threading
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from ...features.errors import HeadstartError, WrongUsage, count, listed
from ...features.layout import TEST
from ...features.store.shards import Shards
from ..pictures import Missing, Shown, Texts, shown
from .jobs import Jobs, bring_apart, train_apart
from .session import DIGITS, MOST_TOLD, Session
from .table import extract_command, write_labels

SIDES: Final = (192, 640)
"""Pixels of a thumbnail in the grid, and of the image that is looked at."""
_HELD: Final = 2000
"""Thumbnails kept: about 8 MB."""
_LONGEST_WAIT: Final = 1.5
"""Seconds that an answer waits for the head to be fitted."""
_CORNERS: Final = 500
"""Of a lasso."""

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


Work = Callable[[], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Answer:
    """Of a request."""

    body: bytes
    media_type: str = "application/json"
    status: int = 200
    cached: bool = False
    """Whether a browser may keep it: the address has the digest in it."""


def as_json(values: Mapping[str, Any], status: int = 200) -> Answer:
    """JSON in ASCII: names of files need not be text."""
    return Answer(json.dumps(values, allow_nan=False).encode("ascii"), status=status)


class Site:
    """A session, its pictures and its files, for the server.

    Parameters
    ----------
    session : Session
        Labels, and what is found of them.
    pictures : Pictures
        Of the same feature file.
    out : Path
        Where labels are written as a manifest.
    images : str or None
        The source where the user said that the images are now.
    """

    def __init__(self, session: Session, pictures: Shown, out: Path, images: str | None) -> None:
        self.session, self.pictures, self.out = session, pictures, out
        self._images = images
        self._may_replace = False
        """Whether the head's name is that of a head of ours, or the user said so."""
        self.jobs = Jobs()
        folder = files(__package__) / "static"
        self.files = {
            one.name: Answer(one.read_bytes(), _TYPES[os.path.splitext(one.name)[1]])
            for one in folder.iterdir()
            if os.path.splitext(one.name)[1] in _TYPES
        }
        self._lock = threading.Lock()
        self._held: collections.OrderedDict[tuple[int, int], bytes] = collections.OrderedDict()

    @property
    def writes(self) -> dict[str, Callable[[Mapping[str, Any]], Work]]:
        """What is asked with values, by the end of its address: values -> what then is done."""
        return {
            "queue": self._queue,
            "label": self._label,
            "undo": lambda _: self.session.undo,
            "class": lambda asked: functools.partial(self.session.add_class, asked.get("name")),
            "write": lambda _: self.write,
            "bring": lambda _: self._bring,
            "train": lambda _: self._train,
        }

    @property
    def reads(self) -> dict[str, Callable[[], Mapping[str, Any]]]:
        """What is asked without values."""
        return {
            "about": self._about,
            "map": lambda: self.session.map(_LONGEST_WAIT),
            "codes": lambda: self.session.map(placed=False),
            "job": lambda: self.jobs.state() | {"state": self.session.state()},
        }

    def read(self, name: str) -> Answer:
        """Answer a GET."""
        return as_json(self.reads[name]())

    def write_to(self, name: str, body: bytes) -> Answer:
        """Answer a POST; what cannot be done is said in a line."""
        try:
            work = self.writes[name](json.loads(body))
        except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
            return as_json({"error": f"not understood ({type(error).__name__})"}, 400)
        try:
            return as_json(work())
        except HeadstartError as error:
            return as_json({"error": str(error)}, 400 if isinstance(error, WrongUsage) else 500)

    def image(self, image: int, side: int, digest: str = "") -> Answer:
        """A thumbnail of an image by its number; 404 and the reason if it cannot be shown.

        Of an example that is no image it is the text.

        With the digest in its address a browser may keep it: that of another image is another one.
        """
        if not 0 <= image < len(self.session.rows) or side not in SIDES:
            return Answer(b"no such image", "text/plain; charset=utf-8", 404)
        with self._lock:
            data = self._held.get((image, side))
            if data is not None:
                self._held.move_to_end((image, side))
        if data is None:
            try:
                data = self.pictures.thumbnail(int(self.session.rows[image]), side)
            except Missing as error:
                status = 200 if isinstance(self.pictures, Texts) else 404
                reason = str(error).encode("utf-8", "replace")
                return Answer(reason, "text/plain; charset=utf-8", status)
            with self._lock:
                if side == SIDES[0]:
                    self._held[image, side] = data
                    if len(self._held) > _HELD:
                        self._held.popitem(last=False)
        known = len(digest) >= DIGITS and self.session.labels.digests[image].startswith(digest)
        return Answer(data, "image/webp", cached=known)

    def write(self) -> dict[str, Any]:
        """Write the manifest."""
        session = self.session
        store, given = session.store, session.given()
        notes = write_labels(self.out, store, session.rows, self.pictures.source, given)
        labelled = sum(map(bool, given))
        of = count(len(given), store.provenance.noun)
        said = f"{count(labelled, 'label')} of {of} written to {self.out}"
        return {"said": "; ".join([said, *notes]), "command": extract_command(store, self.out)}

    def _about(self) -> dict[str, Any]:
        """What does not change while the page is open."""
        return {
            "path": self.session.store.name,
            "out": str(self.out),
            "journal": str(self.session.journal.path),
            "head": str(self._head),
            "sides": SIDES,
        }

    @property
    def _head(self) -> Path:
        return self.out.with_suffix(".joblib")

    def _queue(self, asked: Mapping[str, Any]) -> Work:
        lasso = [(_share(x), _share(y)) for x, y in asked.get("lasso", ())[:_CORNERS]]
        return functools.partial(
            self.session.queue,
            _text(asked["queue"]),
            min(max(_number(asked.get("count", 100)), 0), MOST_TOLD),
            lasso=lasso,
            search=_text(asked.get("search", "")),
            shown=[_number(image) for image in asked.get("shown", ())[:MOST_TOLD]],
            wait=min(max(_share(asked.get("wait", 0)), 0), _LONGEST_WAIT),
        )

    def _label(self, asked: Mapping[str, Any]) -> Work:
        chosen: dict[int, list[int]] = {}
        for code, images in asked["labels"]:
            chosen.setdefault(_number(code), []).extend(map(_number, images))
        if not any(chosen.values()):
            raise ValueError("no image is chosen")
        queue, filtered = _text(asked.get("queue", "")), bool(asked.get("filtered", False))
        return functools.partial(self.session.label, chosen, queue, filtered=filtered)

    def _bring(self) -> dict[str, Any]:
        self._require_near()
        self.jobs.begin("bringing the labels into the feature file", self._brought)
        return self.jobs.state()

    def _train(self) -> dict[str, Any]:
        def work() -> str:
            if self.session.labels.changed:
                self._brought()
            said = train_apart(self.session.store.path.absolute(), self._head.absolute())
            self._may_replace = True
            return said + "; many were shown for being hard to tell, so it may be low" * hard

        if self.session.labels.changed:
            self._require_near()
        codes = self.session.labels.codes
        hard = self._are_hard()
        names = [self.session.labels.names[code] for code in sorted({*codes.tolist()} - {-1})]
        if len(names) < 2:
            raise WrongUsage(
                f"a head takes at least two classes with images; there is {listed(names) or 'none'}"
            )
        if self._head.exists() and not self._may_replace:
            self._may_replace = True
            raise WrongUsage(
                f"{self._head}: is there already, and would be replaced; press Train once more if "
                f"it may be"
            )
        self.jobs.begin("training", work)
        return self.jobs.state()

    def _require_near(self) -> None:
        """Refuse to bring labels into a file on a server, of which there is a copy, or several."""
        store = self.session.store
        if store.url or Shards.takes(store.path):
            what = "is on a server, and read here by a copy" if store.url else "is several files"
            raise WrongUsage(
                f"{store.name}: {what}; write the list, and bring "
                f"its labels in by: {extract_command(store, self.out)}"
            )

    def _are_hard(self) -> bool:
        """Whether a head is scored on images that got labels as the uncertain queue had them."""
        labels, splits = self.session.labels, self.session.store.splits[self.session.rows]
        test = (splits == TEST) & (labels.codes >= 0)
        return bool(labels.asked[0] and (not test.any() or test[labels.given].any()))

    def _brought(self) -> str:
        session = self.session
        session.reopened()  # it refuses a file in which other images have these paths
        store = session.store
        paths = [store.raw_paths[row] for row in session.rows.tolist()]
        given = dict(zip(paths, session.given(), strict=True))
        said = bring_apart(store.path.absolute(), self.pictures.source, given)
        try:
            session.reopened()
        except HeadstartError as error:
            raise HeadstartError(f"{said}; {error}") from error
        self.pictures = shown(session.store, self._images)
        return said


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a whole number is expected")
    return value


def _share(value: object) -> float:
    if not isinstance(value, int | float) or not -2 <= value <= 2:
        raise TypeError("a number from 0 to 1, or little more, is expected")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is expected")
    return value
