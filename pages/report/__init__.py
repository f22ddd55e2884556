"""A head and its feature file -> a report: one HTML file, read offline, with the images in it."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ...classify import Head, Standing, review
from ...features import FeatureStore, HeadstartError, MissingExtra, durable
from ...features.errors import install_command

_ENDINGS: Final = (".html", ".htm")


@dataclasses.dataclass(frozen=True)
class Reported:
    """What `report` did.

    Attributes
    ----------
    path : Path
        The page.
    bytes : int
        Its size.
    shown : int
        Images in it.
    missing : dict of str to int
        Why images could not be shown, and how many.
    """

    path: Path
    bytes: int
    shown: int
    missing: dict[str, int]


def report(
    head: Head,
    store: FeatureStore,
    out: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    standings: Sequence[Standing] = (),
    saved: str | os.PathLike[str] | None = None,
) -> Reported:
    """Write what one would look at to judge a head, as one page that needs no network.

    Parameters
    ----------
    head : Head
        A trained head.
    store : FeatureStore
        The file that it was trained on, or another one with labels.
    out : str or path-like
        The page, ``NAME.html``.
    images : str or path-like, optional
        The source where the images are now; by default the one that the file was made from. An
        image that is gone, or has changed, is shown as missing.
    standings : sequence of Standing, optional
        Of `train_all`, to be shown side by side.
    saved : str or path-like, optional
        Where the head was saved, for the commands that make all of it again.

    Returns
    -------
    Reported
        How many images are in it, and why others are not.

    Raises
    ------
    HeadstartError
        If the page cannot be written; one that was there before is untouched.
    MissingExtra
        If Jinja is not installed.
    SourceError
        If `images` is given and not there.
    TrainingError, ProvenanceMismatch
        As of `headstart.classify.review`.
    """
    # Here, so that commands that make no report need not wait for what reads images.
    from ..pictures import Texts, shown
    from . import making
    from .atlas import HEIGHT, WIDTH
    from .confusion import WRITTEN
    from .content import Contents
    from .page import rendered
    from .svg import learning, reliability
    from .thumbnails import Thumbnails

    path = Path(out)
    require_report(path, store.path, *([] if saved is None else [saved]))
    pictures = shown(store, images)
    found = review(head, store)
    contents = Contents(found, store)
    thumbs = Thumbnails.of(pictures, contents.wishes())
    html = rendered(
        "page.html",
        {
            "head": head,
            "store": store,
            "review": found,
            "scores": found.scores,
            "names": found.names,
            "of": contents,
            "thumbs": thumbs,
            "noun": store.provenance.noun,
            "pictured": not isinstance(pictures, Texts),
            "standings": standings,
            "reliability": reliability(found.scores),
            "learning": None if found.curve is None else learning(found.curve),
            "map": {"width": WIDTH, "height": HEIGHT},
            "written": WRITTEN,
            "facts": list(making.facts(head, store)),
            "commands": making.commands(
                head, store, path, images=images, saved=saved, chosen=bool(standings)
            ),
            "left_open": making.notes(head, store, saved),
        },
    )
    data = html.encode("utf-8")
    with durable.written(path) as temporary:
        temporary.write_bytes(data)
    return Reported(path, len(data), len(thumbs.made), thumbs.reasons)


def require_report(path: Path, *others: Any) -> None:
    """Refuse, before anything else is done, a page that cannot be made or written.

    `others` are files whose place it must not take.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise HeadstartError(f"{path}: a report is written as NAME.html; name it so")
    durable.require_target(path)
    for other in others:
        if path.exists() and os.path.exists(other) and path.samefile(other):
            raise HeadstartError(f"{path}: is what the report is of; choose another output")
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"{path}: Jinja, which makes reports, is not installed; get it with "
            f"{install_command('pages')}"
        ) from error
