"""The command that makes a page to look at: report."""

import time
from pathlib import Path

import click

from .options import FILE, HEAD, IMAGES, JSON, TRUST, out


@click.command()
@HEAD
@FILE
@IMAGES
@out("PETS.html", "The page.")
@TRUST
@JSON
def report(head: str, file: str, images: str | None, out: str, trust: bool, as_json: bool) -> None:
    """Write one page on a head: its answer, its mistakes as images, doubtful labels, a map.

    The page is one file that needs no network; the images in it are small copies. An image that is
    gone, or has changed since it was embedded, is shown as missing.
    """
    from ...classify import load_head
    from ...features import FeatureStore
    from ...pages.report import report, require_report
    from ..printing import heads as printed

    started = time.perf_counter()
    require_report(Path(out), file, head)
    loaded = load_head(head, trust=trust)
    done = report(loaded, FeatureStore(file), out, images=images, saved=head)
    printed.report(done, time.perf_counter() - started, as_json=as_json)
