"""The commands: each parses its options, calls the library and prints what came back."""

import functools
from collections.abc import Callable
from typing import Any

import click

from . import caches, features, heads, labelling, models, reports


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="headstart", message="headstart %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (anywhere in a line).")
def headstart(debug: bool) -> None:
    """Image classifiers in seconds: embed every image once, then train on the cached features.

    \b
    headstart demo                                  see it work, on built-in data
    headstart scan photos/                          what is understood: classes, splits
    headstart extract photos/ -o pets.h5            once, the slow part
    headstart import vectors.npy -o texts.h5        or vectors that something else made
    headstart train pets.h5 -o pets.joblib          seconds, as often as you like
    headstart report pets.joblib pets.h5 -o pets.html
    headstart predict pets.joblib new/ -o new.csv
    headstart export pets.joblib -o pets.onnx       one model, for use elsewhere
    headstart label pets.h5                         label images in the browser
    """  # noqa: D301 - click's marker for a block that is not to be wrapped


def _showing_progress(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same command, with bars on a terminal."""

    @functools.wraps(command)
    def showing(*arguments: Any, **options: Any) -> Any:
        from ...features import showing_progress  # help does without

        with showing_progress():
            return command(*arguments, **options)

    return showing


for _command in (
    *(
        features.scan,
        features.extract,
        features.import_,
        features.seal,
        features.info,
        features.verify,
    ),
    *(heads.train, heads.evaluate, heads.compare, heads.audit),
    *(reports.report, models.predict, models.export, models.demo),
    *(labelling.label, caches.cache),
):
    if _command.callback is not None:
        _command.callback = _showing_progress(_command.callback)
    headstart.add_command(_command)
