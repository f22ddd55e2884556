"""Graphs converted for an engine, kept in a folder of the user's cache.

Converting takes seconds and needs TensorFlow; reading the result takes neither. The folder can be
deleted at any time; it is kept from growing for ever by `cache.trim`.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ...features import child, durable
from ...features.errors import BackboneError, FeatureFileError, first_line
from .. import cache
from ..backbones import build as backbones
from ..backbones.build import Backbone
from ..backbones.request import Request
from ..backbones.weights import RANDOM, sha256
from ..machine import import_keras, keras_setting, versions

_ABOUT: Final = "about.json"

_log = logging.getLogger("headstart")


class NotConvertible(BackboneError):
    """The graph cannot be made for an engine."""


class OtherBackend(NotConvertible):
    """Keras does not run on TensorFlow here, by which graphs are converted."""


@dataclasses.dataclass(frozen=True)
class Graphs:
    """The converted graphs of one engine."""

    engine: str
    """Its name."""
    files: tuple[str, ...]
    """That a graph consists of; the first is what the engine is given, by its path."""
    version: int
    """Raised by one in the commit that changes how graphs are built or converted."""
    libraries: tuple[str, ...]
    """Those whose versions a graph depends on."""
    make: Callable[[Backbone], Any]
    """A Keras graph -> what the engine takes in place of a path."""
    save: Callable[[Any, Path, Backbone], None]
    """Write what `make` made into a folder; the backbone is that which it was made from."""

    def kept(self, request: Request) -> bool:
        """Whether there is a converted graph of `request` in the cache, be it sound or not."""
        return os.path.isdir(self._place(request))

    def cached(self, request: Request) -> Backbone | None:
        """The converted graph of `request`, as a path, if it is in the cache.

        One that is damaged or cannot be read is ignored, and reported on the log.
        """
        place = self._place(request)
        if not os.path.isdir(place):
            return None
        cache.use(place)
        try:
            return self._read(place, request)
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s: damaged (%s); converting this graph again", place, first_line(error))
        except OSError as error:
            _log.warning("%s: cannot be read (%s); converting this graph", place, _reason(error))
        return None

    def made(self, request: Request) -> Backbone:
        """The converted graph of `request`: from the cache, or converted now.

        Random weights are made and measured in a process of its own, which gives the memory back
        that it took, about a gigabyte. Where Keras is loaded already, or shows the user a download,
        the graph is converted here.
        """
        found = self.cached(request)
        alone = request.weights.kind == RANDOM and "keras" not in sys.modules
        if found is None and alone and keras_setting() is None:
            try:
                # What was wrong is found again below, by the kind that it has.
                with contextlib.suppress(FeatureFileError):
                    child.call(self.convert, request)
            except child.ChildDied as error:
                raise BackboneError(
                    f"{request}: the process that made the graph {error}; try a smaller --size or "
                    f"another backbone, or --engine keras"
                ) from error
            found = self.cached(request)
        # What could not be kept is made once more, and this time said.
        return found or self.convert(request)

    def convert(self, request: Request) -> Backbone:
        """Build the graph of `request` with Keras, convert it and keep the result in the cache.

        The graph is a path; where the cache cannot be written, the log says so, and the graph is
        the converted model itself.
        """
        if import_keras().backend.backend() != "tensorflow":
            raise OtherBackend(
                f"the {self.engine} engine converts graphs by TensorFlow, and Keras is set to "
                f"another backend ({keras_setting() or 'by this program'}); unset that for this "
                f"first run, or use --engine keras"
            )
        # An engine brings its own precision when it runs the graph, so one graph serves them all.
        backbone = backbones.build(dataclasses.replace(request, precision="f32"))
        model = self.make(backbone)
        place = self._place(request)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            durable.sweep(place.parent)
            self._publish(model, place, backbone)
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            # OpenVINO raises RuntimeError where the disk is full, TypeError where a path is no
            # text.
            if not os.path.isdir(place):  # else another process was faster
                _log.warning(
                    "%s: the converted graph cannot be kept there (%s), so every run converts it "
                    "anew; make space there, or HEADSTART_CACHE can name another folder",
                    place.parent,
                    _reason(error),
                )
        found = self.cached(request)
        cache.trim()
        return dataclasses.replace(backbone, graph=model) if found is None else found

    def _place(self, request: Request) -> Path:
        # All that goes into the graph, as far as it is known without building it: what the weights
        # called "imagenet" are is up to the version of Keras.
        more: Mapping[str, object] = {"conversion": self.version, **versions(*self.libraries)}
        return cache.folder("graphs") / cache.name(request, more)

    def _publish(self, model: Any, place: Path, backbone: Backbone) -> None:
        """Write a graph so that it appears whole, in place of a damaged one if there is one."""
        temporary, damaged = (durable.temporary_beside(place) for _ in range(2))
        try:
            temporary.mkdir()
            self._write(model, temporary, backbone)
            if place.exists():
                os.replace(place, damaged)
            os.replace(temporary, place)
        finally:
            for left in (temporary, damaged):
                shutil.rmtree(left, ignore_errors=True)

    def _write(self, model: Any, place: Path, backbone: Backbone) -> None:
        self.save(model, place, backbone)
        about = json.dumps(
            {
                "weights_digest": backbone.weights_digest,
                "dimension": backbone.dimension,
                "sha256": {name: sha256(place / name) for name in self.files},
            }
        )
        (place / _ABOUT).write_text(f"{about}\n{_checksum(about)}\n", "ascii")
        for name in (*self.files, _ABOUT):
            durable.sync(place / name)

    def _read(self, place: Path, request: Request) -> Backbone:
        text, checksum = (place / _ABOUT).read_text("ascii").splitlines()
        _require_same(_ABOUT, _checksum(text), checksum)
        about = json.loads(text)
        for name in self.files:
            _require_same(name, sha256(place / name), about["sha256"][name])
        graph = place / self.files[0]
        return Backbone(graph, about["weights_digest"], request.size, about["dimension"])


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)


def _require_same(name: str, found: str, expected: str) -> None:
    if found != expected:
        raise ValueError(f"{name} has another checksum than when it was written")


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()
