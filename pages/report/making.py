"""How a head was made: what is recorded of it, and the commands that make it again."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ...classify import Head
from ...classify.heads import RECIPES
from ...features.provenance import Given
from ...features.provenance.graph import QUANTISED
from ...features.store import FeatureStore
from ..commands import made_by, quoted

_UNSAVED: Final = "HEAD.joblib"
_ALL: Final = "all"


def commands(
    head: Head,
    store: FeatureStore,
    out: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None,
    saved: str | os.PathLike[str] | None,
    chosen: bool,
) -> list[str]:
    """Command lines, as far as the files record what was asked for.

    `chosen` says that the head is the best of all kinds, which only `train` can show side by side.
    """
    file, head_file = quoted(store.name), quoted(_UNSAVED if saved is None else saved)
    elsewhere = [] if images is None else ["--images", quoted(images)]
    lines = [words] if (words := made_by(store)) else []
    own = head.training_digest == store.content_digest
    train = ["train", file, "-o", head_file, *_training_options(head, chosen=chosen)]
    if own and chosen:
        lines.append([*train, "--report", quoted(out)])
    elif own and head.name in RECIPES:
        lines.append(train)
    if not (own and chosen):
        lines.append(["report", head_file, file, *elsewhere, "-o", quoted(out)])
    return [" ".join(["headstart", *words]) for words in lines]


def notes(head: Head, store: FeatureStore, saved: str | os.PathLike[str] | None) -> list[str]:
    """What the commands leave open, in sentences."""
    said = []
    if head.training_digest != store.content_digest:
        said.append("The head was trained on another feature file, or before this one changed.")
    elif head.name not in RECIPES:
        said.append(f"The head is a {head.name} that was given to train() in Python.")
    if not made_by(store):
        said.append(f"{store.name} was made in Python, of vectors that were given.")
    if saved is None:
        said.append(f"{_UNSAVED} stands for the file of the head, which was not named.")
    return said


def facts(head: Head, store: FeatureStore) -> Iterator[tuple[str, str]]:
    """What is recorded of images, features and head."""
    made, environment = store.provenance, store.environment
    what, each = ("Examples", "each") if isinstance(made, Given) else ("Images", "an image")
    yield what, f"{store.images:,} from {environment.get('source') or 'an unknown source'}"
    yield "Extracted", str(environment.get("extracted") or "")
    yield "Feature file", f"{store.name}, content SHA-256 {store.content_digest}"
    yield made.role.capitalize(), f"{made.maker}, {made.dimension:,} numbers {each}"
    if isinstance(made, Given):
        yield "Settings", f"{made.settings}, SHA-256 {made.settings_digest}; as they were stated"
        yield "Arithmetic", f"stored as {made.dtype}"
    else:
        yield "Weights", _weights(environment.get("weights", {}), made.weights_digest)
        yield "Pixels", f"{made.fit}, {made.resize}; {made.decode}"
        yield "Arithmetic", f"{made.precision}, stored as {made.dtype}"
    if store.augmentation.views > 1:
        changed = store.augmentation
        yield "Views", f"{changed.views} of each image ({changed.of}): {changed.changes}"
    yield "Fingerprint", f"{store.fingerprint} (of all that can change a vector)"
    parameters = ", ".join(f"{name} = {value:.4g}" for name, value in head.parameters.items())
    trained = f"{sum(head.training_counts.values()):,} images in {head.seconds:.1f} s"
    yield "Head", f"{head.name}{f' ({parameters})' if parameters else ''}, trained on {trained}"
    yield "Training", ", ".join(_training(head))
    libraries = ("headstart", "python", "numpy", "pillow", "keras", "tensorflow")
    versions = [
        f"{name} {environment[name]}"
        for name in (*libraries, "openvino", "onnxruntime")
        if isinstance(environment.get(name), str)
    ]
    yield "Versions", ", ".join([*versions, f"scikit-learn {head.scikit_learn}"])


def _training(head: Head) -> Iterator[str]:
    yield f"{head.folds} folds"
    yield f"seed {head.seed}"
    if head.class_weight:
        yield f"class weight {head.class_weight}"
    if head.min_images > 1:
        yield f"classes of at least {head.min_images} images"
    if head.tta:
        yield "scored by the mean over views"


def _weights(recorded: Mapping[str, Any], digest: str) -> str:
    where = recorded.get("path") or recorded.get("kind") or "unknown"
    if recorded.get("kind") == QUANTISED:
        return f"quantised, in {where}, SHA-256 of the graph {digest}"
    return f"{where}, SHA-256 of the arrays {digest}"


def _training_options(head: Head, *, chosen: bool) -> Iterator[str]:
    yield from ("--head", _ALL if chosen else quoted(head.name))
    yield from ("--folds", str(head.folds), "--seed", str(head.seed))
    if head.class_weight:
        yield from ("--class-weight", quoted(head.class_weight))
    if head.min_images > 1:
        yield from ("--min-images", str(head.min_images))
    if head.tta:
        yield "--tta"
