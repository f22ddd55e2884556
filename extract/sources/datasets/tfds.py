"""A data set of TensorFlow Datasets, by its name -> references to its images."""

import contextlib
import glob
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ....features.errors import MissingExtra, SourceError, first_line, install_command, nearest
from .. import tree
from ..image import ImageReference
from ..listing import Listing
from ..lists.columns import USUAL, plain, without_groups
from ..notes import about_groups
from . import rows
from .shards import Keys, Shard

_ABOUT: Final = "dataset_info.json"
"""The file by which a folder is a prepared data set."""

_VERSION: Final = re.compile(r"\d+\.\d+\.\d+")


def listed(name: str, columns: Mapping[str, str] | None = None) -> Listing:
    """The images of a data set, in the order in which they are stored.

    Parameters
    ----------
    name : str
        ``tfds:NAME``, ``tfds:NAME/CONFIG:VERSION`` or ``tfds:FOLDER`` of a prepared one; then
        perhaps rows in brackets, as the library writes them, each perhaps with what they are to be:
        ``tfds:cats_vs_dogs[train=train[:40%],test=train[40%:]]``.
    columns : mapping, optional
        The features that are meant, as ``{"path": "image", "label": "species"}``.

    Raises
    ------
    MissingExtra
        If TensorFlow Datasets is not installed.
    SourceError
        If there is no such data set, or it has no images; if rows are not there, or meant twice.
    """
    what = rows.asked(name)
    rows.require_no_splits(what.source, columns or {})
    folder = _folder(what)
    builder = _prepared(what, folder)
    info = builder.info
    wanted, notes = rows.slices(
        what,
        {split: int(about.num_examples) for split, about in info.splits.items()},
        lambda said: [
            (one.splitname, one.from_, one.to)
            for one in _library().core.ReadInstruction.from_spec(said).to_absolute(info.splits)
        ],
    )
    keys, more = _keys(what.source, info, columns or {})
    version = f"tfds:{info.full_name}"
    images = [image for one in wanted for image in _images(info, one, keys, version)]
    labels = rows.about_unlabelled(images, keys.label) if keys.label else []
    labels += tree.about_labels(image.label for image in images)
    labels += about_groups(keys.group, ((image.group, image.split) for image in images))
    called = f"tfds:{folder}" if folder else _called(info)
    return Listing(called, images, notes=[*notes, *more], label_notes=labels)


def _library() -> Any:
    try:
        import tensorflow_datasets
        import tensorflow_datasets.core
    except Exception as error:  # of the libraries that it imports, too
        raise MissingExtra(
            f"tfds: sources need TensorFlow Datasets, which cannot be imported "
            f"({first_line(error)}); install it with: {install_command('tfds')}"
        ) from error
    return tensorflow_datasets


def _folder(what: rows.Asked) -> str | None:
    """The folder of a prepared data set that is meant; None if it is meant by its name."""
    named = os.path.expanduser(what.name)
    folder = os.path.abspath(named)
    path = named.startswith((os.sep, ".")) or what.name.startswith("~")
    if not path and not os.path.isdir(folder):
        return None
    while not os.path.isfile(os.path.join(folder, _ABOUT)):
        below = _below(folder)
        versions = [name for name in below if _VERSION.fullmatch(name)]
        if versions:
            # As the library does without a word, too.
            latest = max(versions, key=lambda one: [*map(int, one.split("."))])
            folder = os.path.join(folder, latest)
        elif len(below) == 1:
            folder = os.path.join(folder, below[0])
        elif not path:
            return None  # a folder of the same name, of something else
        elif below:
            raise SourceError(
                f"{what.source}: there are several data sets in this folder: {_few(below)}; name "
                f"one"
            )
        else:
            raise SourceError(
                f"{what.source}: there is no prepared data set in this folder, which has a {_ABOUT}"
                if os.path.isdir(folder)
                else f"{what.source}: there is no such folder"
            )
    return folder


def _below(folder: str) -> list[str]:
    """The folders in one in which a prepared data set is, as NAME/CONFIG/VERSION may be."""
    found = []
    for depth in ("", "*", "*/*"):
        pattern = os.path.join(glob.escape(folder), "*", depth, _ABOUT)
        found = [os.path.relpath(one, folder).split(os.sep)[0] for one in glob.iglob(pattern)]
        if found:
            break
    return sorted(set(found))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8:,} more" if len(names) > 8 else "")


def _prepared(what: rows.Asked, folder: str | None) -> Any:
    """The builder of a data set that is on this machine; it is fetched if it is not."""
    tfds = _library()
    try:
        if folder:
            return tfds.builder_from_directory(folder)
        builder = tfds.builder(what.name, **_where())
        if not builder.is_prepared():
            with contextlib.redirect_stdout(sys.stderr):  # standard output is for results
                builder.download_and_prepare()
    except tfds.core.DatasetNotFoundError as error:
        raise SourceError(
            f"{what.source}: TensorFlow Datasets does not know it, and it is not prepared in the "
            f"library's folder (TFDS_DATA_DIR); {_similar(tfds, what.name)}"
        ) from error
    except Exception as error:  # each data set has code of its own
        raise SourceError(
            f"{what.source}: TensorFlow Datasets cannot prepare it: {_said(error)}"
        ) from error
    return builder


def _where() -> dict[str, str]:
    # The library looks at the variable when it is imported, and never again.
    folder = os.environ.get("TFDS_DATA_DIR")
    return {"data_dir": folder} if folder else {}


def _similar(tfds: Any, name: str) -> str:
    known = nearest(re.split("[/:]", name)[0], tfds.list_builders(with_community_datasets=False))
    try:
        there = str(tfds.builder(re.split("[/:]", name)[0], **_where()).info.full_name)
    except Exception:  # noqa: BLE001 - this is but a hint
        return f"the most similar name is {known}"
    return f"there is {there}"


def _said(error: BaseException) -> str:
    """What happened; where it happened comes before it, in a line that ends in a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if not line.endswith(":")), "")
    return first_line(told or error)


def _called(info: Any) -> str:
    """The name of the data set without the rows that were asked for: theirs are the same in all."""
    return f"tfds:{str(info.full_name).removesuffix(f'/{info.version}')}:{info.version}"


def _keys(source: str, info: Any, columns: Mapping[str, str]) -> tuple[Keys, list[str]]:
    """The features that are image and label, by the data set's own word or by their kind."""
    kinds = _library().features
    is_dict = isinstance(info.features, kinds.FeaturesDict)
    features = dict(sorted(info.features.items())) if is_dict else {}
    there = ", ".join(f"{key} ({type(one).__name__})" for key, one in features.items()) or "none"
    rows.require_columns(source, columns, features, there)
    meant = info.supervised_keys if isinstance(info.supervised_keys, tuple) else ()
    images = [key for key, one in features.items() if type(one) is kinds.Image]
    labels = [key for key, one in features.items() if isinstance(one, kinds.ClassLabel)]
    labels = without_groups(labels, columns)
    image = columns.get("path") or rows.chosen(
        [key for key in images if key in meant] or images, rows.IMAGE_NAMES
    )
    if image is None or not isinstance(features[image], kinds.Image):
        raise SourceError(
            f"{source}: it is not clear which feature is the image that has a label: {there}"
        )
    depth = np.dtype(features[image].np_dtype).name
    if depth not in ("uint8", "uint16"):
        raise SourceError(
            f"{source}: its images (feature {image!r}) are of {depth}, which is not decoded; only "
            f"those of 8 or 16 bits are"
        )
    label = columns.get("label") or rows.chosen(
        [key for key in labels if key in meant] or labels, rows.LABEL_NAMES
    )
    if label is None:
        why = f"may be {' or '.join(labels)}" if labels else "is none of its features"
        keys = _with_groups(source, features, Keys(image, None, ()), columns)
        return keys, [f"the label {why}: the images have none ({there})"]
    if not isinstance(features[label], kinds.ClassLabel):
        raise SourceError(f"{source}: the feature {label!r} is no ClassLabel; there are {there}")
    names = [unicodedata.normalize("NFC", one).strip() for one in features[label].names]
    return _with_groups(source, features, Keys(image, label, names), columns), []


def _with_groups(
    source: str, features: Mapping[str, Any], keys: Keys, columns: Mapping[str, str]
) -> Keys:
    """The same with the feature of groups, if it is called so, or was named."""
    named = columns.get("group")
    usual = [key for key in features if plain(key) in USUAL["group"]]
    for group in usual if named is None else [named]:
        one = features[group]
        if (
            group not in (keys.image, keys.label)
            and one.shape == ()
            and np.dtype(one.np_dtype).kind in "iuOSU"
        ):
            return keys._replace(group=group, group_names=getattr(one, "names", None) or ())
    if named is not None:
        raise SourceError(
            f"{source}: the feature {named!r} has no groups: it is that of images or labels, or "
            f"of neither text nor whole numbers"
        )
    return keys


def _images(info: Any, one: rows.Slice, keys: Keys, version: str) -> Iterator[ImageReference]:
    """The images of a slice, in order."""
    about = info.splits[one.base]
    kind = str(getattr(info.file_format, "value", info.file_format) or "tfrecord")
    first = 0
    for path, count in zip(about.filepaths, map(int, about.shard_lengths), strict=True):
        if first < one.stop and one.start < first + count:
            yield from Shard(os.fspath(path), kind, first, count, version).images(one, keys)
        first += count
