"""The command about what headstart keeps on the disk."""

import click

from .options import JSON


@click.command()
@click.option("--clear", is_flag=True, help="Remove what is not in use.")
@JSON
def cache(clear: bool, as_json: bool) -> None:
    """Say what the caches hold, how big it is and since when it is unused; or clear them.

    All of it is made or downloaded again when it is needed: converted and quantised backbones,
    vectors of ImageEmbedder, notes on heads, copies of files at URLs. What a running process uses
    is never removed, nor what headstart did not make.
    """
    from ...extract import cache
    from ..printing import caches as printed

    if clear:
        printed.cleared(cache.clear(), as_json=as_json)
    else:
        printed.contents(cache.contents(), as_json=as_json)
