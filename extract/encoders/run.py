"""Items and an encoder -> a sealed feature file: made once, and brought up to date."""

import dataclasses
import os
import platform
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from ...features.errors import FeatureFileError, SourceError, WrongUsage
from ...features.journal import units
from ...features.journal.known import Known
from ...features.journal.lock import at_work, exclusive
from ...features.journal.outputs import Output
from ...features.journal.progress import showing_progress
from ...features.journal.seal import prepare, seal
from ...features.layout import FEATURE_DTYPES
from ...features.provenance.environment import versions
from ...features.store import FeatureStore
from ...features.store.shards import Shards
from ..pipeline import checked_output
from ..work.losses import require_rows
from ..work.progress import Progress
from .answers import Asking
from .encoder import Encoder, described
from .items import Digest, Items
from .making import Making

_SOURCE: Final = ""
"""Items come from a program, which has no name."""


@dataclasses.dataclass(frozen=True)
class Embedded:
    """What a call of `embed` did; each item is counted once, as embedded to skipped."""

    items: int
    """Those that were given."""
    embedded: int
    """Distinct contents that went through the encoder."""
    reused: int
    """Distinct contents whose vectors were known from earlier calls."""
    duplicates: int
    """Further items with the content of one of those."""
    skipped: int
    """Listed in the file with the reason."""
    removed: int
    """Ids that the file held before and this call did not give."""
    seconds: dict[str, float]
    """``total``: wall time. ``embed``: of it, in the encoder."""


def embed(
    encoder: Callable[..., Any] | Any,
    items: Iterable[Any],
    out: str | os.PathLike[str],
    *,
    ids: Iterable[Any] | None = None,
    labels: Iterable[Any] | None = None,
    splits: Iterable[Any] | None = None,
    groups: Iterable[Any] | None = None,
    name: str | None = None,
    revision: str | None = None,
    settings: Mapping[str, Any] | None = None,
    preprocessor: Callable[..., Any] | None = None,
    digest: Digest | None = None,
    batch_size: int = 32,
    dtype: str = "float32",
    tolerance: float = 1e-3,
    fresh: bool = False,
    remove: bool = False,
    progress: bool = False,
) -> FeatureStore:
    """Embed every item once, by any encoder, and keep the vectors in one feature file.

    It is to texts, sounds and whatever else there is what `extract` is to images: made for encoders
    that are slow. What is finished is on the disk within seconds; after an interrupt, a kill or
    with more items the same call goes on, and embeds only contents that it has no vector of.

    Parameters
    ----------
    encoder : callable, Keras model or scikit-learn transformer
        A function from a list of items to their vectors: an array (n, D), a list of vectors, a
        sparse matrix or a tensor. Or a built model, layer or keras-hub backbone of Keras: it is
        called in inference mode, and of an array (n, tokens, D) the vector is the mean over the
        tokens (those of ``padding_mask``, if there is one), of a map the mean over its places. Or a
        fitted transformer: its `transform`. Arrays are stacked for these two.
    items : iterable
        Texts, bytes, arrays of numbers, or paths (``os.PathLike``: the encoder is given the path,
        and the content of the file tells whether it is known). An iterator is read once, and no
        more of it is in memory than a batch; what is kept of an item is about 2 KB.
    out : str or path-like
        The feature file to make or to bring up to date: a path, or a URL of a file in a bucket
        (``s3://bucket/texts.h5``, extra ``remote``).
    ids : iterable of str or int, optional
        What each row is called, no two the same. By default the text, if that is short and
        printable (else its beginning and digest), the path, or the digest of the content; what
        comes twice has ``#2`` behind it.
    labels, splits, groups : iterable, optional
        Of each item, None where it has none: a label; ``"train"``, ``"validation"`` or ``"test"``;
        what it has in common with others (a speaker, an author), which folds keep together.
    name, revision : str, optional
        What the encoder is, and which one of that name. Known by themselves for Keras (the class;
        its weights) and scikit-learn (the class; its version); a function has to say both. Another
        one never adds to the same file: raise `revision` when the function changes.
    settings : mapping, optional
        All else that changes a vector, as JSON can say it. Digests of the configuration and weights
        of a model and of the parameters and the fitted state of a transformer are added.
    preprocessor : callable, optional
        For Keras: from a list of items to what the model takes, such as a preprocessor of
        keras-hub. One that is a plain function is described by ``settings={"preprocessor": ...}``.
    digest : callable, optional
        From an item of any other kind to bytes or text that tells its content, as its SHA-256.
    batch_size : int, default=32
        Items a call: enough to keep a processor busy, few enough for the memory of most encoders.
    dtype : {"float32", "float16"}, default="float32"
        Of the stored vectors; float16 halves the file and keeps about three digits.
    tolerance : float, default=1e-3
        Largest relative distance between the vector that a few known items have and the one that
        they get now, which is looked at before anything is added; 1e-3 is what engines in float32
        differ by. Raise it for encoders in bfloat16.
    fresh : bool, default=False
        Make the file anew, with no vector of the one that is there: of another encoder, or damaged.
    remove : bool, default=False
        Let go of vectors that no item of this call has.
    progress : bool, default=False
        Show a progress bar on standard error.

    Returns
    -------
    FeatureStore
        The sealed file: features of shape (N, D), rows sorted by id. Its attribute `summary`, an
        `Embedded`, says what the call did. Items that the encoder raised on, or gave numbers that
        are not finite for, are in `skipped` with the reason; they have no row.

    Raises
    ------
    WrongUsage
        If the encoder does not say what it is; if an item is of no known kind; if lengths differ,
        an id comes twice or a value is none of those listed; if vectors would be lost, see
        `remove`.
    SourceError
        If there are no items, or none that can be used.
    BackboneError
        If the encoder gives anything but a vector of one length for each item; if it fails on the
        first 32 items, or after some that it fails on also on one that it had embedded.
    ProvenanceMismatch
        If `out` holds vectors of another encoder; if this one gives other vectors than it gave.
    FeatureFileError
        If `out` is another kind of file, or damaged, or cannot be written; if another run is at
        work on it.

    Examples
    --------
    >>> from headstart.extract import embed
    >>> def lengths(texts):
    ...     return [[len(text), text.count(" ")] for text in texts]
    >>> store = embed(
    ...     lengths, ["a cat", "a dog"], "lengths.h5", name="lengths", revision="1"
    ... )  # doctest: +SKIP
    """
    started = time.perf_counter()
    _require_values(out, batch_size, dtype, tolerance)
    made = described(
        encoder, name=name, revision=revision, settings=settings, preprocessor=preprocessor
    )
    made.given(1, dtype)  # refused if it cannot be recorded
    output = Output.of(os.fspath(out))
    with output.named():
        path = checked_output(output.path, (), fresh=fresh)
        output.require_place()
    with showing_progress(progress), output.named(), at_work(path, exclusive(path)):
        output.begin()
        known = _known(path, made, dtype, fresh=fresh)
        output.send(known.without)
        sealed = known.store
        given = Items(
            items, known, ids=ids, labels=labels, splits=splits, groups=groups, digest=digest
        )
        asking = Asking(
            made.call,
            dtype,
            batch_size,
            None if known.origin is None else known.origin.provenance.dimension,
        )
        with closing(Progress(given.total, shown=progress, thing="item")) as shown:
            making = Making(
                known,
                made,
                asking,
                dtype=dtype,
                tolerance=tolerance,
                environment=_environment(made),
                shown=shown,
            )
            for item in given:
                making.take(item)
            prepare()
            making.finish()
        if not making.listed:
            raise SourceError(f"{path}: there are no items to embed")
        if asking.dimension is None:
            raise SourceError(
                f"none of the {len(making.listed)} items can be used; the first is "
                f"{making.first_failure}"
            )
        if sealed is not None and not remove:
            _require_none_lost(sealed, making.contents)
        store = output.sealed(seal(_complete(known, making, output), making.listed))
        now = {one.stat.path for one in making.listed}
        distinct = {key[0] for key in store.keys}
        store.summary = Embedded(
            items=len(making.listed),
            embedded=len(making.embedded),
            reused=len(distinct - making.embedded),
            duplicates=len(store) - len(distinct),
            skipped=len(store.skipped_files),
            removed=0 if sealed is None else sum(one not in now for one in sealed.raw_paths),
            seconds={
                "total": round(time.perf_counter() - started, 3),
                "embed": round(making.seconds, 3),
            },
        )
    return store


def _require_values(
    out: str | os.PathLike[str], batch_size: int, dtype: str, tolerance: float
) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise WrongUsage(f"batch_size {batch_size!r}: a whole number from 1 is expected")
    if dtype not in FEATURE_DTYPES:
        raise WrongUsage(f"dtype {dtype!r}: use one of {', '.join(FEATURE_DTYPES)}")
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not tolerance >= 0:
        raise WrongUsage(f"tolerance {tolerance!r}: a number from 0 is expected")
    if Shards.takes(out):
        raise WrongUsage(f"{os.fspath(out)}: embed makes one file; name it without a star")


def _known(path: Path, made: Encoder, dtype: str, *, fresh: bool) -> Known:
    """What is known for the file, if it was made alike; unfinished work alone if it is fresh."""
    if not fresh:
        known = Known(path, source=_SOURCE)
        if known.origin is not None:
            made.require_fits(known.origin, dtype)
        return known
    unfinished = units.verified(units.folder_of(path))
    others = {one.path.name for one in unfinished if not made.fits(one.origin, dtype)}
    return Known(path, source=_SOURCE, fresh=True, without=others, before=unfinished)


def _environment(made: Encoder) -> dict[str, Any]:
    return {
        "source": _SOURCE,
        "system": platform.platform(),
        "python": platform.python_version(),
        **versions("headstart", "numpy", "h5py", *made.libraries),
    }


def _require_none_lost(sealed: FeatureStore, contents: Collection[bytes]) -> None:
    """Refuse to let go of vectors, as of images that are named one by one, unless that is asked."""
    lost = [row for row, (digest, _) in enumerate(sealed.keys) if digest not in contents]
    if lost:
        raise WrongUsage(
            f"{sealed.name}: {len(lost):,} of its {len(sealed):,} vectors are of no item of this "
            f"call, such as that of {sealed.paths[lost[0]]!r:.80}, and would be lost; give those "
            f"items too, choose another output, or let go of them by remove=True"
        )


def _complete(known: Known, making: Making, output: Output) -> Known:
    """What is known now: all that was published, and something of every item."""
    output.pull()
    known = known.again()
    lost = sum(known.found(one.stat) is None for one in making.listed)
    if lost:
        raise FeatureFileError(
            f"{units.folder_of(known.out)}: {lost:,} items that were just embedded do not read "
            f"back; check the disk, then make the same call again"
        )
    require_rows(known, making.listed, "items")
    return known
