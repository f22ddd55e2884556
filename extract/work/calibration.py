"""Which quantised backbone a run embeds by: one that there is, or one that its images calibrate.

Images are chosen by their contents alone, so that the same images give the same graph, wherever
they lie and whatever they are called.
"""

import contextlib
import hashlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import joblib
import numpy as np
from numpy.typing import NDArray

from ...features import durable
from ...features.errors import FeatureFileError, ProvenanceMismatch, SourceError, say
from ...features.journal import graphs
from ...features.journal.known import Known
from ...features.journal.outputs import Output
from ...features.origin import INT8
from ...features.provenance.graph import Graph
from ...features.records import UNREAD, FileStat
from .. import cache, engines
from ..backbones.request import Request
from ..backbones.weights import QUANTISED, WeightsSource
from ..embedding import Embedding
from ..engines import int8
from ..machine import versions
from ..sources.image import ImageReference, Unreadable
from .readahead import look_ahead
from .threads import Threads

MOST: Final = 330
LEAST: Final = 33
"""Images that a backbone is quantised with, a tenth more than calibrate it: on the others the
result is compared with what it was made of.

MobileNetV2 with ImageNet weights at 150 pixels, mean cosine to f32 on other photographs: 0.9969 by
300, 0.9956 by 60, 0.9944 by 30, 0.989 by 16, 0.971 by 8.
"""


def adopted(embedding: Embedding, known: Known) -> Embedding:
    """The embedding by the graph that the known vectors were made by, if one is asked for.

    Raises
    ------
    ProvenanceMismatch
        If that graph was made of other weights.
    FeatureFileError
        If it is missing or damaged.
    """
    origin, request = known.origin, embedding.request
    if origin is None or not request.uncalibrated:
        return embedding
    origin.require_declared(request.declared())
    digest = origin.provenance.graph_digest
    made_of = graphs.find(known.out, digest).about.get("weights", {})
    if not request.weights.same(made_of):
        before = made_of.get("path") or made_of.get("kind")
        raise ProvenanceMismatch(
            f"{known.out} does not fit this run: its backbone was quantised from {before} weights, "
            f"not from {request.weights}. {known.remedy}"
        )
    return _quantised(embedding, known.out, digest)


def calibrated(
    embedding: Embedding,
    out: Path,
    images: Sequence[ImageReference],
    stats: Mapping[bytes, FileStat],
    *,
    progress: bool = False,
) -> Embedding:
    """The embedding by a graph that these images calibrate, if one is to be made.

    The same images, weights and versions find it in the cache.

    Raises
    ------
    SourceError
        If there are too few images.
    BackboneError, MissingExtra
        If the backbone cannot be quantised, or nncf is not installed.
    """
    request = embedding.request
    if not request.uncalibrated:
        return embedding
    int8.require_nncf()
    started = time.perf_counter()
    place = _place(request, _known_by(_first(images, stats)))
    graph = _cached(place)
    if graph is None:
        found = list(chosen(images, stats, request))
        if len(found) < LEAST:
            raise SourceError(
                f"precision {INT8!r}: the backbone is quantised by the images themselves, at least "
                f"{LEAST} distinct ones that can be decoded, and there are {len(found)}; use more "
                f"images, --precision bf16 or f32, or one that others calibrated (--weights "
                f"FILE.h5)"
            )
        engines.warn_of_slow_int8(request.precision)
        if progress:
            say(f"quantising {request.architecture.name} by {len(found)} images ...")
        held = len(found) // 11
        pixels = [one for _, one in found]
        calibration = _known_by(digest for digest, _ in found)
        graph = int8.quantise(request, pixels[:-held], pixels[-held:], calibration)
        _cache(place, graph)
    if progress:
        said = graph.about
        say(
            f"int8: vectors have a mean cosine of {said['cosine']:.4f} to those in f32 (least "
            f"{said['least']:.4f}), on {said['others']} images that did not calibrate"
        )
    graphs.keep(out, graph)
    made = _quantised(embedding, out, graph.digest)
    made.load_seconds = time.perf_counter() - started
    return made


def agreed(embedding: Embedding, out: Path, digest: str | None) -> Embedding:
    """The embedding by the graph that the shards of a file have agreed on, if it is another one.

    Raises
    ------
    FeatureFileError
        If it is not beside the units.
    """
    if digest is None or digest == embedding.request.weights.sha256:
        return embedding
    Output.at(out).take(f"{digest}{graphs.ENDING}")
    graphs.find(out, digest)
    return _quantised(embedding, out, digest)


def keep(request: Request, known: Known) -> None:
    """Have the graph of `request`, if it has one, beside the units that it is going to make.

    A file that is sealed from them carries it.
    """
    source = request.weights
    if source.kind == QUANTISED:
        sealed = known.store
        if sealed is None or sealed.provenance.graph_digest != source.sha256:
            graphs.keep(known.out, int8.graph_of(request))


def chosen(
    images: Sequence[ImageReference], stats: Mapping[bytes, FileStat], request: Request
) -> Iterator[tuple[bytes, NDArray[np.uint8]]]:
    """The first `MOST` contents that can be decoded: their digests and pixels.

    They are taken in the order of SHA-256 over the size of the file as 8 bytes, little-endian, and
    then of their own SHA-256: a function of the contents, for which few files are read. (Where
    many are of one size, those are all; where a source does not tell sizes, all are.)
    """
    threads = Threads(joblib.cpu_count(), "decode")
    try:
        ordered = (image for _, image in _ordered(images, stats, threads))
        looked = look_ahead(ordered, None, request, threads)
        good = (one for one in looked if not one.file.reason)
        for one in itertools.islice(good, MOST):
            yield one.file.digest, one.pixels[0]
    finally:
        threads.abandon()


def _first(images: Sequence[ImageReference], stats: Mapping[bytes, FileStat]) -> list[bytes]:
    """The first `MOST` contents, be they images or not: which can be decoded follows from them."""
    threads = Threads(joblib.cpu_count(), "read")
    try:
        ordered = _ordered(images, stats, threads)
        return [digest for digest, _ in itertools.islice(ordered, MOST)]
    finally:
        threads.abandon()


def _ordered(
    images: Sequence[ImageReference], stats: Mapping[bytes, FileStat], threads: Threads
) -> Iterator[tuple[bytes, ImageReference]]:
    """Distinct contents by their digests, in the order of `chosen`; read as far as it is asked."""
    sized = _sized(images, stats)
    for size in sorted(sized, key=lambda size: hashlib.sha256(size.to_bytes(8, "little")).digest()):
        digests = threads.map(ImageReference.digest, sized[size])
        of_size = dict(zip(digests, sized[size], strict=True))
        of_size.pop(UNREAD, None)
        yield from sorted(of_size.items(), key=lambda one: one[0])


def _known_by(digests: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _sized(
    images: Sequence[ImageReference], stats: Mapping[bytes, FileStat]
) -> dict[int, list[ImageReference]]:
    """The images by the size of their files."""
    sized: dict[int, list[ImageReference]] = {}
    for image in images:
        size = stats[image.path].size
        if not size:
            try:
                size = len(image.read()[0])
            except (Unreadable, MemoryError):
                continue
        sized.setdefault(size, []).append(image)
    return sized


def _quantised(embedding: Embedding, out: Path, digest: str) -> Embedding:
    output = Output.at(out)
    place = output.name if output.far else os.path.abspath(out)
    return embedding.by(WeightsSource(QUANTISED, place, digest))


def _place(request: Request, known_by: str) -> Path:
    more = {
        "quantisation": int8.QUANTISATION,
        "calibration": known_by,
        **request.declared(),
        **versions("keras", "tensorflow", "openvino", "nncf"),
    }
    return cache.folder("graphs") / f"{cache.name(request, more)}.graph"


def _cached(place: Path) -> Graph | None:
    with contextlib.suppress(OSError, FeatureFileError):
        data = place.read_bytes()
        cache.use(place)
        return Graph.unpacked(data[64:], data[:64].decode("ascii", "replace"))
    return None


def _cache(place: Path, graph: Graph) -> None:
    # What cannot be kept is made again by the next run that needs it.
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        durable.publish(place, graph.digest.encode("ascii") + graph.packed())
        cache.use(place)
    cache.trim()
