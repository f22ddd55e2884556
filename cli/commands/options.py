"""Options that several commands have, and short ways to declare the others."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def number(
    name: str, text: str, default: int | None = None, least: int = 1, most: int | None = None
) -> Callable[[Command], Command]:
    """An option that takes a whole number."""
    limits, shown = click.IntRange(least, most), default is not None
    return click.option(
        name, default=default, type=limits, show_default=shown, metavar="N", help=text
    )


def choice(name: str, default: str, choices: str, text: str) -> Callable[[Command], Command]:
    """An option that takes a word; the library refuses what it does not know."""
    return click.option(name, default=default, show_default=True, metavar=choices, help=text)


def out(metavar: str, text: str) -> Callable[[Command], Command]:
    """The file that a command writes."""
    return click.option("-o", "--out", required=True, metavar=metavar, help=text)


_OF_LISTS: Final = {
    "label": "Column of a list that has the labels [default: found by its name].",
    "split": "Column of a list that has the splits [default: found by its name].",
    "group": "Column of a list that says which images belong together, as a patient does: "
    "folds keep them together [default: group].",
}

OF_EXAMPLES: Final = {
    "id": "Column of the list that says what the examples are called [default: found by its name].",
    **_OF_LISTS,
    "text": "Column of the list that pages show of an example [default: found by its name].",
    "vector": "Column of a Parquet file that has the vectors [default: the only one of lists].",
}
"""Of a list of examples that are no images."""


def columns_of(texts: dict[str, str]) -> Callable[[Command], Command]:
    """An option for each column of a list, with its help; they come as one mapping, `columns`."""

    def given(command: Command) -> Command:
        @functools.wraps(command)
        def gathered(*arguments: Any, **options: Any) -> Any:
            found = {name: options.pop(f"{name}_column") for name in texts}
            named = {name: column for name, column in found.items() if column is not None}
            return command(*arguments, columns=named, **options)

        for name, text in reversed(texts.items()):
            gathered = click.option(f"--{name}-column", metavar="NAME", help=text)(gathered)
        return cast(Command, gathered)

    return given


columns: Final = columns_of(
    {"path": "Column of a list that has the paths [default: found by its name].", **_OF_LISTS}
)
"""Options for the columns of a list of images."""

HEAD: Final = click.argument("head", metavar="HEAD")
FILE: Final = click.argument("file", metavar="FILE.h5")
JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
TRUST: Final = click.option(
    "--trust",
    is_flag=True,
    help="Load a head that this machine did not write. A .joblib file runs the code in it.",
)
SOURCES: Final = click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
WHAT: Final = (
    "SOURCE is a folder of images; a list (.csv, .tsv, or - for paths on standard input); an "
    "archive (.zip, .tar, .tar.gz), or shards ('shard-{000..123}.tar'); a data set (tfds:NAME, "
    "hf:NAME, .parquet); a URL of any of these (s3://, https:// ...); or images. "
    "docs/sources.md shows what is understood of each."
)
"""The end of the help of every command that takes a source."""

IMAGES: Final = click.option(
    "--images",
    metavar="SOURCE",
    help="Where the images are now [default: where they were when the file was made].",
)
LABELS: Final = choice(
    "--labels", "folder", "folder|none", "Take labels from folders (or the list), or none."
)
TTA: Final = click.option(
    "--tta",
    is_flag=True,
    help="Predict an image by the mean over its views (test-time augmentation); the head, or the "
    "file, was made with --views.",
)
FOLDS: Final = number("--folds", "Folds of cross-validation.", 5, least=2)
MIN_IMAGES: Final = number(
    "--min-images", "Leave out classes with fewer distinct training images.", 1
)
SEED: Final = number("--seed", "Seed of the shuffling.", 0, least=0, most=2**32 - 1)
REMOVE: Final = click.option(
    "--remove",
    is_flag=True,
    help="Let go of vectors that the source has no image for, even if they came from another "
    "source or are most of the file.",
)
PLOTS: Final = click.option(
    "--plots", type=Path, metavar="DIR", help="Draw the scores as PNG files."
)
ENGINE: Final = choice(
    "--engine",
    "auto",
    "auto|keras|openvino|onnxruntime",
    "What runs the backbone; auto: Keras on a GPU, else OpenVINO if it is installed, else, on "
    "x86-64, ONNX Runtime if that is.",
)
WEIGHTS: Final = click.option(
    "--weights",
    metavar="FILE",
    help="Where the backbone's weights file (for int8: the feature file) is now, if it has moved "
    "since the head was trained.",
)
