"""What the commands print on standard output: short text for people, or one JSON object."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from ..features.layout import NO_LABEL, SPLIT_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ..classify.comparison import Comparison
    from ..classify.evaluation import Scores
    from ..classify.prediction import Head
    from ..classify.training import Standing
    from ..extract.summary import Summary
    from ..features.store import FeatureStore
    from .exporting import Exported
    from .predictions import Predicted

_MOST_CLASSES = 30
_MOST_CONFUSED = 12
_MOST_MISTAKES = 5
_LIMITS = {
    "load": "loading the backbone",
    "read": "reading",
    "decode": "decoding",
    "embed": "embedding",
    "write": "writing",
}


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object; file names that are not text are escaped."""
    click.echo(json.dumps(values, indent=2, default=str))


def extraction(store: FeatureStore, summary: Summary) -> None:
    """After `extract`."""
    seconds, rates = summary.seconds, summary.rates
    spent = [
        (
            f"  {seconds['total']:.1f} s, {rates['total']:.1f} images a second: "
            f"{seconds['load']:.1f} s loading the backbone, {seconds['embed']:.1f} s embedding, "
            f"{seconds['waiting']:.1f} s waiting for images, {seconds['write']:.1f} s writing"
        ),
        (
            f"  beside that {seconds['read']:.1f} s reading, {seconds['decode']:.1f} s of "
            f"processor time decoding"
        ),
    ]
    if summary.limits:
        advice = f": {summary.advice}" if summary.advice else ""
        spent.append(f"  {_LIMITS[summary.limits]} limits{advice}")
    if not summary.embedded:
        spent = [f"  nothing new to embed; {seconds['total']:.1f} s"]
    _lines(
        f"{store.path}: {_count(len(store), 'image')} x {store.dimension} features, "
        f"{_classes(store)}",
        f"  embedded {summary.embedded:,}, reused {summary.reused:,}, duplicates "
        f"{summary.duplicates:,}, removed {summary.removed:,}, skipped {summary.skipped:,}",
        f"  {store.provenance.backbone} at {store.provenance.size} pixels, "
        f"{summary.weights} weights" + (f", {summary.engine} engine" if summary.engine else ""),
        *spent,
    )
    if summary.skipped:
        _lines(f"  `headstart info {store.path} --skipped` says which images were skipped, and why")


def store(store: FeatureStore, *, list_skipped: bool, as_json: bool) -> None:
    """After `info` on a feature file."""
    skipped = [dataclasses.asdict(one) for one in store.skipped]
    if as_json:
        values = {
            "rows": len(store),
            "images": store.images,
            "dimension": store.dimension,
            "label_names": store.label_names,
            "labels": _label_counts(store),
            "splits": _split_counts(store),
            "content_digest": store.content_digest,
            "fingerprint": store.fingerprint,
            "provenance": dataclasses.asdict(store.provenance),
            "environment": store.environment,
            "skipped": len(skipped),
        }
        print_json(values | ({"skipped_files": skipped} if list_skipped else {}))
        return
    if list_skipped:
        _lines(*(f"{one['path']}\t{one['reason']}" for one in skipped))
        return
    splits = ", ".join(f"{count:,} {name}" for name, count in _split_counts(store).items())
    _lines(
        f"{store.path}: {_count(store.images, 'image')} x {store.dimension} "
        f"{store.provenance.dtype} features, {_classes(store)}",
        f"  splits: {splits}",
        *(f"  {count:>8,}  {name}" for name, count in _label_counts(store).items()),
        f"  skipped: {len(skipped):,}" + (" (--skipped lists them)" if skipped else ""),
        *_made_by(dataclasses.asdict(store.provenance), store.environment),
        f"  fingerprint: {store.fingerprint}",
        f"  content digest: {store.content_digest}",
    )


def verification(path: str, problems: Sequence[str], *, as_json: bool) -> None:
    """After `verify`."""
    if as_json:
        print_json({"sound": not problems, "problems": list(problems)})
        return
    _lines(*(f"{path}: {problem}" for problem in problems))
    if not problems:
        _lines(f"{path}: sound")


def head(head: Head, *, as_json: bool) -> None:
    """After `info` on a head."""
    if as_json:
        hidden = ("pipeline", "canary", "training_images", "provenance", "scores", "novelty")
        fields = [field.name for field in dataclasses.fields(head) if field.name not in hidden]
        print_json(
            {name: getattr(head, name) for name in fields}
            | {
                "label_names": head.label_names,
                "fingerprint": head.provenance.fingerprint,
                "provenance": dataclasses.asdict(head.provenance),
                "scores": head.scores.to_dict(),
                "false_alarms": None if head.novelty is None else head.novelty.false_alarms,
            }
        )
        return
    _lines(_trained(head), *_score_lines(head.scores))
    if head.novelty is not None:
        _lines(
            f"  calls images unfamiliar that are unlike the training images, and "
            f"{percent(head.novelty.false_alarms)} of those that are like them"
        )
    _lines(
        *_made_by(dataclasses.asdict(head.provenance), head.environment),
        f"  scikit-learn {head.scikit_learn}, seed {head.seed}, {head.folds} folds",
        f"  fingerprint: {head.provenance.fingerprint}",
    )


def training(
    head: Head,
    standings: Sequence[Standing] | None,
    out: str,
    drawn: Sequence[Path],
    *,
    as_json: bool,
) -> None:
    """After `train`."""
    if as_json:
        more: dict[str, Any] = {"parameters": head.parameters, "plots": drawn}
        if standings is not None:
            more["leaderboard"] = [dataclasses.asdict(one) for one in standings]
        _scores_json(head.name, head.scores, head.seconds, more)
        return
    if standings is not None:
        _lines(*leaderboard(standings), "")
    _lines(_trained(head), *_score_lines(head.scores), f"saved as {out}", *_drawn(drawn))


def evaluation(
    name: str, scores: Scores, seconds: float, drawn: Sequence[Path], *, as_json: bool
) -> None:
    """After `evaluate`."""
    if as_json:
        _scores_json(name, scores, seconds, {"plots": drawn})
        return
    _lines(f"{name} head", *_score_lines(scores), *_drawn(drawn))


def leaderboard(standings: Sequence[Standing]) -> list[str]:
    """Heads side by side, best first."""
    header = ("", "accuracy", "behind the best", "log loss", "calibration error", "seconds")
    rows = [
        (
            one.head,
            percent(one.scores.accuracy),
            _behind(one.behind) if place else "",
            f"{one.scores.log_loss:.3f}",
            percent(one.scores.calibration_error or 0),
            f"{one.seconds:.1f}",
        )
        for place, one in enumerate(standings)
    ]
    scores = standings[0].scores
    above = (
        f"{scores.basis}, {_count(scores.rows, 'image')}; best first, by the log loss of "
        f"cross-validation on the training images"
    )
    return [above, *("  " + line for line in table(header, rows))]


def comparison(found: Comparison, *, as_json: bool) -> None:
    """After `compare`."""
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    header = ("", "features", "accuracy", "95% interval", "behind the best", "log loss")
    rows = [
        (
            one.name + (f" ({one.baseline})" if one.baseline not in ("", one.name) else ""),
            f"{one.dimension:,}",
            percent(one.accuracy),
            f"{percent(one.interval[0])} to {percent(one.interval[1])}",
            _behind(one.behind) if place else "",
            f"{one.log_loss:.3f}",
        )
        for place, one in enumerate(found.ranks)
    ]
    _lines(
        f"{found.folds}-fold cross-validation of a logistic head, {_count(found.images, 'image')}; "
        f"always guessing the commonest class: {percent(found.majority)}",
        *("  " + line for line in table(header, rows)),
        *(f"  note: {note}" for note in found.notes),
    )
    warned = [one for one in found.ranks if one.no_better_than]
    for one in warned:
        _lines(
            f"{one.name} is no better than {' and '.join(one.no_better_than)}: its backbone does "
            f"not suit these images"
        )
    if not any(one.baseline for one in found.ranks):
        _lines(
            "There is no baseline among them: --pixels SOURCE adds one, and so does a file made "
            "with `headstart extract --weights random`"
        )


def predictions(predicted: Predicted, *, as_json: bool) -> None:
    """After `predict`."""
    if as_json:
        print_json(dataclasses.asdict(predicted))
        return
    shares = sorted(predicted.labels.items(), key=lambda item: -item[1])[:_MOST_CLASSES]
    unlike = "" if predicted.unfamiliar is None else f"{predicted.unfamiliar:,} unfamiliar, "
    _lines(
        f"{predicted.out}: {_count(predicted.images, 'image')} predicted, {unlike}"
        f"{predicted.skipped:,} skipped",
        *(f"  {count:>8,}  {name}" for name, count in shares if count),
    )


def export(exported: Exported, *, as_json: bool) -> None:
    """After `export`."""
    if as_json:
        print_json(dataclasses.asdict(exported))
        return
    shown = exported.labels[:_MOST_CLASSES]
    labels = ", ".join(shown) + (", ..." if len(exported.labels) > len(shown) else "")
    _lines(
        f"{exported.out}: {exported.bytes / 1e6:.1f} MB; takes uint8 RGB images of "
        f"{exported.size} x {exported.size} pixels (fit: {exported.fit}), gives the probabilities "
        f"of {labels}",
        f"  compared with `headstart predict` on {exported.compared} images: probabilities differ "
        f"by at most {exported.difference:.1g}",
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns aligned: the first to the left, the others to the right."""
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [header, *rows]
    ]


def percent(share: float) -> str:
    """A share of one, as people read it."""
    return f"{100 * share:.1f}%"


def _behind(behind: tuple[float, float, float]) -> str:
    difference, low, high = (100 * value for value in behind)
    return f"{difference:.1f} points ({low:.1f} to {high:.1f})"


def _drawn(paths: Sequence[Path]) -> list[str]:
    return [f"drawn: {', '.join(map(str, paths))}"] if paths else []


def _trained(head: Head) -> str:
    parameters = ", ".join(f"{name} = {value:.4g}" for name, value in head.parameters.items())
    counts = head.training_counts
    shown = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    if len(counts) > _MOST_CLASSES:
        shown = f"{len(counts)} classes"
    total = _count(sum(counts.values()), "image")
    if parameters:
        parameters = f" ({parameters})"
    return f"{head.name}{parameters} trained on {total} ({shown}) in {head.seconds:.1f} s"


def _score_lines(scores: Scores) -> list[str]:
    low, high = scores.interval
    shown = list(scores.per_class.items())[:_MOST_CLASSES]
    lines = [
        f"{scores.basis}, {_count(scores.rows, 'image')}:",
        (
            f"  accuracy {percent(scores.accuracy)} (95% interval {percent(low)} to "
            f"{percent(high)}; always guessing the commonest class: {percent(scores.baseline)})"
        ),
        (
            f"  balanced accuracy {percent(scores.balanced_accuracy)}, macro F1 "
            f"{scores.macro_f1:.3f}, log loss {scores.log_loss:.3f}"
            + _unless_missing(", expected calibration error {}", scores.calibration_error)
        ),
    ]
    rows = [
        (
            name,
            percent(one["precision"]),
            percent(one["recall"]),
            f"{one['f1']:.3f}",
            f"{one['support']:,}",
        )
        for name, one in shown
    ]
    lines += ["  " + line for line in table(("", "precision", "recall", "F1", "images"), rows)]
    if len(scores.per_class) > len(shown):
        lines.append(f"  ... and {len(scores.per_class) - len(shown)} classes more (--json)")
    lines += _confusion_lines(scores)
    if scores.mistakes:
        lines.append("  most confident mistakes:")
        header = ("", "is", "taken for", "confidence")
        mistakes = [
            (one["path"], one["label"], one["predicted"], percent(one["confidence"]))
            for one in scores.mistakes[:_MOST_MISTAKES]
        ]
        lines += ["    " + line for line in table(header, mistakes)]
    return lines + [f"  note: {note}" for note in scores.notes]


def _confusion_lines(scores: Scores) -> list[str]:
    if not 2 < len(scores.confusion) <= _MOST_CONFUSED:
        return []  # of two classes the table above says the same
    names = list(scores.per_class)
    rows = [
        (name, *(f"{count:,}" if count else "." for count in counts))
        for name, counts in zip(names, scores.confusion, strict=True)
    ]
    return ["  confusion: true class by predicted class"] + [
        "    " + line for line in table(("", *(name[:12] for name in names)), rows)
    ]


def _unless_missing(text: str, share: float | None) -> str:
    return "" if share is None else text.format(percent(share))


def _scores_json(name: str, scores: Scores, seconds: float, more: Mapping[str, Any]) -> None:
    print_json({"head": name, **scores.to_dict(), "seconds": round(seconds, 3), **more})


def _made_by(provenance: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
    weights = environment.get("weights", {})
    engine = environment.get("engine", "keras")  # the only one before there was a choice
    engine += f" {environment.get(engine)}"
    return [
        (
            f"  made by: {provenance['backbone']} at {provenance['size']} pixels, "
            f"{provenance['precision']}, {provenance['fit']}, "
            f"{weights.get('path') or weights.get('kind')} weights "
            f"({provenance['weights_digest'][:12]}...)"
        ),
        (
            f"  made with: headstart {environment.get('headstart')}, {engine}, "
            f"{environment.get('device')}, {environment.get('sealed')}"
        ),
    ]


def _classes(store: FeatureStore) -> str:
    names = store.label_names
    if not names:
        return "no labels"
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return f"{_count(len(names), 'label')} ({shown})"


def _label_counts(store: FeatureStore) -> dict[str, int]:
    codes, counts = np.unique(store.labels, return_counts=True)
    return {
        "(no label)" if code == NO_LABEL else store.label_names[code]: count
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
    }


def _split_counts(store: FeatureStore) -> dict[str, int]:
    codes, counts = np.unique(store.splits, return_counts=True)
    return {
        SPLIT_NAMES[code]: count
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
    }


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _lines(*lines: str) -> None:
    for line in lines:
        click.echo(line)
