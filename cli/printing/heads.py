"""What train, evaluate, compare and info print of heads and their scores."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ...classify import Audit, Comparison, Head, Scores, Standing
from ...features.errors import count
from ...pages import Reported
from .features import made_by
from .text import MOST_CLASSES, lines, percent, print_json, table

_MOST_CONFUSED: Final = 12
_MOST_MISTAKES: Final = 5
_MOST_SUSPECTS: Final = 20


def head(head: Head, *, as_json: bool) -> None:
    """After `info` on a head."""
    about = {
        "label_names": head.label_names,
        "environment": head.environment,
        "fingerprint": head.provenance.fingerprint,
        "provenance": head.provenance.declared,
        "views": dataclasses.asdict(head.augmentation),
        "scores": head.scores.to_dict(),
        "false_alarms": head.novelty.false_alarms,
    }
    if as_json:
        hidden = ("pipeline", "origin", "training_images", "scores", "novelty", "seen", "unseen")
        names = [field.name for field in dataclasses.fields(head) if field.name not in hidden]
        print_json({name: getattr(head, name) for name in names} | about)
        return
    _trained(head)
    noun = head.provenance.noun
    lines(
        f"  calls {noun}s unfamiliar that are unlike the training {noun}s, and "
        f"{percent(head.novelty.false_alarms)} of those that are like them"
    )
    made_by(head.provenance, head.environment)
    lines(
        f"  scikit-learn {head.scikit_learn}, seed {head.seed}, {head.folds} folds",
        f"  fingerprint: {head.provenance.fingerprint}",
    )


def training(
    head: Head,
    standings: Sequence[Standing],
    out: str,
    drawn: Sequence[Path],
    reported: Reported | None,
    *,
    as_json: bool,
) -> None:
    """After `train`; several kinds of head, if they were compared, come as `standings`."""
    if as_json:
        more: dict[str, Any] = {"parameters": head.parameters, "tta": head.tta, "plots": drawn}
        more["report"] = None if reported is None else str(reported.path)
        if standings:
            more["leaderboard"] = [{"head": one.pop("name"), **one} for one in _values(standings)]
        _scores_json(head.name, head.scores, head.seconds, more)
        return
    if standings:
        leaderboard(head.scores, standings)
        lines("")
    _trained(head)
    lines(f"saved as {out}", *_drawn(drawn), *([] if reported is None else _reported(reported)))


def report(done: Reported, seconds: float, *, as_json: bool) -> None:
    """After `report`."""
    if as_json:
        print_json({**dataclasses.asdict(done), "seconds": round(seconds, 3)})
        return
    lines(*_reported(done))


def evaluation(
    head: Head, scores: Scores, seconds: float, drawn: Sequence[Path], *, as_json: bool
) -> None:
    """After `evaluate`."""
    if as_json:
        _scores_json(head.name, scores, seconds, {"plots": drawn})
        return
    lines(f"{head.name} head")
    _scores(scores, head.provenance.noun)
    lines(*_drawn(drawn))


def leaderboard(scores: Scores, standings: Sequence[Standing]) -> None:
    """Kinds of head side by side; `scores` are those of the chosen one."""
    columns = ("accuracy", _BEHIND, "log loss", "calibration error (by chance)", "seconds")
    lines(
        f"{scores.basis}, {count(scores.rows, 'image')}; best first, by the log loss of "
        f"cross-validation on the training images",
        *_side_by_side(standings, columns),
    )


def audit(found: Audit, out: str | None, seconds: float, *, as_json: bool) -> None:
    """After `audit`."""
    if as_json:
        values = dataclasses.asdict(found)
        del values["noun"]
        print_json({**values, "out": out, "seconds": round(seconds, 3)})
        return
    shown = found.suspects[:_MOST_SUSPECTS]
    among = count(found.images, f"labelled {found.noun}")
    lines(f"{count(len(found.suspects), 'suspect')} among {among}")
    if shown:
        rows = [
            (
                one.path,
                one.given,
                one.suggested or ".",
                "." if one.probability is None else percent(one.probability),
                f"{one.near_duplicate} ({one.near_duplicate_label})" if one.near_duplicate else "",
            )
            for one in shown
        ]
        header = ("", "is", "looks like", "probability of the label", "near-copy")
        lines(*table(header, rows))
    if len(found.suspects) > len(shown):
        where = "" if out else "; -o suspects.csv writes all"
        lines(f"  ... and {len(found.suspects) - len(shown):,} more{where}")
    lines(*(f"  note: {note}" for note in found.notes))
    if out:
        lines(f"written to {out}")


def comparison(found: Comparison, *, as_json: bool) -> None:
    """After `compare`."""
    if as_json:
        values = dataclasses.asdict(found)
        del values["standings"], values["noun"]
        print_json({"ranks": _values(found.standings), **values})
        return
    columns = ("features", "accuracy", "95% interval", _BEHIND, "log loss")
    lines(
        f"{found.folds}-fold cross-validation of a logistic head, "
        f"{count(found.images, found.noun)}; always guessing the commonest class: "
        f"{percent(found.majority)}",
        *_side_by_side(found.standings, columns),
        *(f"  note: {note}" for note in found.notes),
    )
    for one in found.standings:
        if one.no_better_than:
            lines(
                f"{one.name} is no better than {' and '.join(one.no_better_than)}: its backbone "
                f"does not suit these images"
            )
    if not any(one.baseline for one in found.standings):
        lines(
            "None of these files is a baseline: --pixels SOURCE adds one, and so does a file made "
            "with `headstart extract --weights random`"
        )


_BEHIND: Final = "behind the best"
_COLUMNS: Final[Mapping[str, Callable[[Standing], str]]] = {
    "features": lambda one: f"{one.dimension:,}",
    "accuracy": lambda one: percent(one.accuracy),
    "95% interval": lambda one: _interval(one.interval),
    _BEHIND: lambda one: "{:.1f} points ({:.1f} to {:.1f})".format(*(100 * x for x in one.behind)),
    "log loss": lambda one: f"{one.log_loss:.3f}",
    "calibration error (by chance)": lambda one: (
        f"{percent(one.calibration_error)} ({percent(one.calibration_noise)})"
    ),
    "seconds": lambda one: f"{one.seconds:.1f}",
}


def _values(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """Without what heads do not have, or feature files."""
    every = map(dataclasses.asdict, standings)
    return [{name: value for name, value in one.items() if value is not None} for one in every]


def _side_by_side(standings: Sequence[Standing], columns: Sequence[str]) -> list[str]:
    """A table of heads or of feature files, best first."""
    rows = []
    for one in standings:
        cells = {name: _COLUMNS[name](one) for name in columns}
        if one is standings[0]:
            cells[_BEHIND] = ""
        name = f"{one.name} ({one.baseline})" if one.baseline not in ("", one.name) else one.name
        rows.append((name, *cells.values()))
    return table(("", *columns), rows)


def _scores(scores: Scores, noun: str) -> None:
    lines(
        f"{scores.basis}, {count(scores.rows, noun)}:",
        f"  accuracy {percent(scores.accuracy)} (95% interval {_interval(scores.interval)}; always "
        f"guessing the commonest class: {percent(scores.baseline)})",
        f"  balanced accuracy {percent(scores.balanced_accuracy)}, macro F1 {scores.macro_f1:.3f}, "
        f"log loss {scores.log_loss:.3f}, expected calibration error "
        f"{percent(scores.calibration_error)} (of perfect probabilities it would be "
        f"{percent(scores.calibration_noise)} here)",
    )
    names = list(scores.per_class)
    classes = [
        (name, *_found(c), f"{c['support']:,}")
        for name, c in itertools.islice(scores.per_class.items(), MOST_CLASSES)
    ]
    lines(*table(("", "precision", "recall", "F1", f"{noun}s"), classes))
    if len(names) > MOST_CLASSES:
        lines(f"  ... and {len(names) - MOST_CLASSES} more classes (--json)")
    if 2 < len(names) <= _MOST_CONFUSED:  # of two classes the table above says the same
        confused = [
            (name, *(f"{number:,}" if number else "." for number in counts))
            for name, counts in zip(names, scores.confusion_matrix().tolist(), strict=True)
        ]
        header = ("", *(name[:12] for name in names))
        lines("  confusion: true class by predicted class", *table(header, confused, indent=4))
    if scores.mistakes:
        mistakes = [
            (one["path"], one["label"], one["predicted"], percent(one["confidence"]))
            for one in scores.mistakes[:_MOST_MISTAKES]
        ]
        header = ("", "is", "taken for", "confidence")
        lines("  most confident mistakes:", *table(header, mistakes, indent=4))
    lines(*(f"  note: {note}" for note in scores.notes))


def _scores_json(name: str, scores: Scores, seconds: float, more: Mapping[str, Any]) -> None:
    print_json({"head": name, **scores.to_dict(), "seconds": round(seconds, 3), **more})


def _found(of_class: Mapping[str, float]) -> tuple[str, str, str]:
    """Precision, recall and F1 of a class; points where none of it was scored."""
    if not of_class["support"]:
        return ".", ".", "."
    shares = percent(of_class["precision"]), percent(of_class["recall"])
    return *shares, f"{of_class['f1']:.3f}"


def _trained(head: Head) -> None:
    """How a head was trained, and its scores."""
    parameters = ", ".join(f"{name} = {value:.4g}" for name, value in head.parameters.items())
    counts = head.training_counts
    shown = ", ".join(f"{number:,} {name}" for name, number in counts.items())
    if len(counts) > MOST_CLASSES:
        shown = f"{len(counts)} classes"
    made = head.augmentation.views
    views = f", {made} views of each," if made > 1 else ""
    lines(
        f"{head.name}{f' ({parameters})' if parameters else ''} trained on "
        f"{count(sum(counts.values()), head.provenance.noun)} ({shown}){views} in "
        f"{head.seconds:.1f} s"
    )
    _scores(head.scores, head.provenance.noun)


def _interval(interval: tuple[float, float]) -> str:
    return f"{percent(interval[0])} to {percent(interval[1])}"


def _reported(done: Reported) -> list[str]:
    missing = [
        f"  note: {count(number, 'image')} could not be shown: {reason}; --images says where they "
        f"are now"
        for reason, number in done.missing.items()
    ]
    return [f"report: {done.path}", *missing]


def _drawn(paths: Sequence[Path]) -> list[str]:
    return [f"drawn: {', '.join(map(str, paths))}"] if paths else []
