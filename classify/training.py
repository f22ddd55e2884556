"""A feature file + the name of a head -> a fitted head with scores that hold up."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import numpy as np

from ..features.errors import TrainingError, WrongUsage
from ..features.layout import NO_LABEL, SPLIT_NAMES, TEST, VALIDATION
from .evaluation import Scores, majority_class, score
from .heads import Recipe, recipe
from .prediction import Head, probabilities
from .splits import contents, stratified_folds

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline

    from ..features.store import FeatureStore


@dataclasses.dataclass(frozen=True)
class _Examples:
    """Labelled rows: (N, D) vectors, (N,) class names, (N,) identities of the images."""

    features: NDArray[np.floating]
    labels: NDArray[np.str_]
    identities: NDArray[np.uint64]

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> _Examples:
        return _Examples(self.features[chosen], self.labels[chosen], self.identities[chosen])

    def of(self, name: str) -> NDArray[np.uint64]:
        identities: NDArray[np.uint64] = self.identities[self.labels == name]
        return identities

    def __len__(self) -> int:
        return len(self.labels)


def train(store: FeatureStore, head: str = "logistic", *, folds: int = 5, seed: int = 0) -> Head:
    """Train a head on a feature file.

    Rows of the test split, if there is one, are scored and never trained on. Without one the
    scores are cross-validated, search included, and the head is trained on everything.

    Parameters
    ----------
    store : FeatureStore
        Labelled features.
    head : {"logistic", "svm"}, default="logistic"
        Logistic regression, or a linear SVM with calibrated probabilities; both on standardised
        features, their regularisation chosen by cross-validation inside the training rows.
    folds : int, default=5
        Of every cross-validation; fewer if a class has fewer images.
    seed : int, default=0
        Of the shuffling: same store, head, folds and seed give the same head.

    Returns
    -------
    Head

    Raises
    ------
    TrainingError
        If there are no labels, fewer than two classes, a class of one image, or a class that only
        the test split has.
    """
    started = time.perf_counter()
    chosen = recipe(head)
    if folds < 2:
        raise WrongUsage(f"folds {folds}: at least 2 are needed to hold something out")
    if not 0 <= seed < 2**32:
        raise WrongUsage(f"seed {seed}: a number from 0 to {2**32 - 1} is expected")
    examples, test, notes = _examples(store)
    names, counts = np.unique(examples.labels, return_counts=True)
    if len(names) < 2:
        raise TrainingError(
            f"{store.path}: only one class, {', '.join(map(repr, names.tolist()))}, among the "
            f"{len(examples)} labelled training images; a classifier needs at least two"
        )
    unseen = sorted(set(test.labels.tolist()) - set(names.tolist())) if test is not None else []
    if unseen:
        raise TrainingError(
            f"{store.path}: class {unseen[0]!r} has images in the test split and none to train on; "
            f"add training images of it or take it out"
        )
    pipeline, parameters = _fit(chosen, examples, folds, seed)
    if test is not None:
        scores = score(
            test.labels,
            probabilities(pipeline, test.features),
            names.tolist(),
            majority=majority_class(examples.labels),
            basis="test split",
            notes=notes,
        )
    else:
        scores = _cross_validated(chosen, examples, folds, seed, notes)
    return Head(
        pipeline=pipeline,
        name=head,
        provenance=store.provenance,
        environment=store.environment,
        canary=store.canary,
        training_digest=store.content_digest,
        training_images=np.unique(examples.identities),
        training_counts=dict(zip(names.tolist(), counts.tolist(), strict=True)),
        parameters=parameters,
        scores=scores,
        folds=folds,
        seed=seed,
        seconds=time.perf_counter() - started,
    )


def evaluate(head: Head, store: FeatureStore, split: str | None = None) -> Scores:
    """Score a head on labelled features that it was not trained on.

    Parameters
    ----------
    head : Head
        A trained head.
    store : FeatureStore
        Features of the same provenance.
    split : {"train", "validation", "test", "all"}, optional
        Which rows; by default the test split if the file has one, else all.

    Returns
    -------
    Scores
        Images that the head was trained on are left out and counted in the notes.

    Raises
    ------
    ProvenanceMismatch
        If head and features were made differently.
    TrainingError
        If no row is left to score, or one has a class that the head does not know.
    """
    head.require_fit(store)
    labelled = store.labels != NO_LABEL
    if split is None:
        split = "test" if (store.splits[labelled] == TEST).any() else "all"
    if split != "all":
        if split not in SPLIT_NAMES[1:]:
            raise WrongUsage(f"split {split!r}: use {', '.join(SPLIT_NAMES[1:])} or all")
        chosen = labelled & (store.splits == SPLIT_NAMES.index(split))
    else:
        chosen = labelled
    basis = "all labelled images" if split == "all" else f"{split} split"
    if not chosen.any():
        raise TrainingError(f"{store.path}: nothing to score in {basis}: no labelled image there")
    examples = _labelled(store).rows(chosen[labelled])
    trained_on = np.isin(examples.identities, head.training_images)
    if trained_on.all():
        raise TrainingError(
            f"{store.path}: the head was trained on every image in {basis}, so scoring them would "
            f"only flatter it; `headstart info HEAD` shows its honest scores"
        )
    examples = examples.rows(~trained_on)
    unknown = sorted(set(examples.labels.tolist()) - set(head.label_names))
    if unknown:
        raise TrainingError(
            f"{store.path}: class {unknown[0]!r} is unknown to the head, which knows "
            f"{', '.join(head.label_names)}"
        )
    left_out = int(trained_on.sum())
    return score(
        examples.labels,
        head.predict(examples.features).probabilities,
        head.label_names,
        majority=head.majority,
        basis=basis,
        notes=[f"{left_out} images that the head was trained on are left out"] if left_out else [],
    )


def _labelled(store: FeatureStore) -> _Examples:
    rows = store.labels != NO_LABEL
    if not rows.any():
        raise TrainingError(
            f"{store.path}: none of its {len(store)} images has a label; put the images of each "
            f"class into a folder of its own, or give a manifest with a 'label' column, and run "
            f"`headstart extract` again (nothing is embedded twice)"
        )
    features = store.features if rows.all() else store.features[rows]
    return _Examples(
        # scikit-learn would compute means and products of float16 in float16.
        features.astype(np.float32, copy=False),
        np.asarray(store.label_names)[store.labels[rows]],
        contents(store.digests[rows]),
    )


def _contradictory(examples: _Examples) -> NDArray[np.bool_]:
    """Rows whose bytes appear under another label too: nobody can say which one is true."""
    _, codes = np.unique(examples.labels, return_inverse=True)
    pairs = np.unique(np.stack([examples.identities, codes.astype(np.uint64)]), axis=1)
    images, labels = np.unique(pairs[0], return_counts=True)
    return np.isin(examples.identities, images[labels > 1])


def _examples(store: FeatureStore) -> tuple[_Examples, _Examples | None, list[str]]:
    """What to train on, what to test on, and what was left out."""
    examples = _labelled(store)
    splits = store.splits[store.labels != NO_LABEL]
    notes = []
    if len(examples) < len(store):
        notes.append(f"{len(store) - len(examples)} images without a label are left out")
    contradictory = _contradictory(examples)
    if contradictory.any():
        notes.append(
            f"{int(contradictory.sum())} images are left out, because files of the same bytes have "
            f"different labels"
        )
        examples, splits = examples.rows(~contradictory), splits[~contradictory]
    if (splits == VALIDATION).any():
        notes.append(
            f"{int((splits == VALIDATION).sum())} images of the validation split are trained on "
            f"too: regularisation is chosen by cross-validation"
        )
    in_test = splits == TEST
    if not in_test.any():
        return examples, None, notes
    test, rest = examples.rows(in_test), examples.rows(~in_test)
    if not len(rest):
        raise TrainingError(
            f"{store.path}: all {len(test)} labelled images are in the test split; some must be "
            f"left to train on"
        )
    leaked = np.isin(rest.identities, test.identities)
    if leaked.any():
        notes.append(
            f"{int(leaked.sum())} training images are in the test split too; they are left out of "
            f"the training"
        )
        rest = rest.rows(~leaked)
    return rest, test, notes


def _fit(
    chosen: Recipe, examples: _Examples, folds: int, seed: int
) -> tuple[Pipeline, dict[str, float]]:
    inner = stratified_folds(examples.labels, examples.identities, folds, seed)
    return chosen.fit(examples.features, examples.labels, inner, seed)


def _cross_validated(
    chosen: Recipe, examples: _Examples, folds: int, seed: int, notes: list[str]
) -> Scores:
    names = np.unique(examples.labels)
    scarce = [name for name in names if len(np.unique(examples.of(name))) < 3]
    if scarce:
        raise TrainingError(
            f"class {str(scarce[0])!r} has fewer than 3 distinct images, too few to cross-validate "
            f"the scores; add images of it, or leave it out"
        )
    outer = stratified_folds(examples.labels, examples.identities, folds, seed)
    held_out_probabilities = np.empty((len(examples), len(names)))
    for training, held_out in outer:
        pipeline, _ = _fit(chosen, examples.rows(training), folds, seed)
        held_out_probabilities[held_out] = probabilities(pipeline, examples.features[held_out])
    return score(
        examples.labels,
        held_out_probabilities,
        names.tolist(),
        majority=majority_class(examples.labels),
        basis=f"{len(outer)}-fold cross-validation",
        notes=notes,
    )
