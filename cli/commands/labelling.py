"""The command that opens a page to label images on: label."""

from typing import Any

import click

from .options import FILE, IMAGES, number


@click.command()
@FILE
@IMAGES
@click.option(
    "--classes",
    metavar="NAME,NAME,...",
    help="Classes that may be given, in the order of their keys; the page can add more.",
)
@click.option(
    "-o",
    "--out",
    default="labels.csv",
    show_default=True,
    metavar="LABELS.csv",
    help="Where the labels are written at the end; a journal beside it has them at once.",
)
@number(
    "--port",
    "Where the page is, on this machine alone [default: any that is free].",
    least=1,
    most=65535,
)
@click.option("--no-browser", is_flag=True, help="Print the address and open nothing.")
def label(file: str, port: int | None, no_browser: bool, **how: Any) -> None:
    """Label the images of a feature file on a page in the browser.

    A head learns along, and what it is least certain of comes first. Every label is on the disk
    before the page says so: close it, end it by Ctrl-C or run it again at any time. `extract` takes
    the list that it writes, and brings the labels into the file without embedding anything.
    """
    from ...features import FeatureStore
    from ...pages.labelling import label
    from ..printing.text import lines

    label(FeatureStore(file), port=port or 0, browser=not no_browser, told=lines, **how)
