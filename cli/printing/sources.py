"""What scan prints of a source, and extract before it begins."""

from typing import TYPE_CHECKING, Any, Final

from ...features.errors import count
from .text import lines, print_json, table

if TYPE_CHECKING:  # `info` has no use for sources
    from ...extract.sources.listing import Listing

_MOST_ROWS: Final = 10
"""Of the table of labels; --json has them all."""

_LONGEST: Final = 60  # characters of a label


def listing(found: "Listing", *, as_json: bool = False) -> None:
    """What a source is understood to be."""
    if as_json:
        print_json(values(found))
        return
    classes, splits = found.classes, found.splits
    name = "images given one by one" if found.by_name else found.name
    lines(
        f"{name}: {count(len(found), 'image')}, "
        + (count(len(classes), "label") if classes else "no labels")
        + (
            f"; {', '.join(f'{number:,} {split}' for split, number in splits.items())}"
            * _split(found)
        )
    )
    shown = list(classes.items())
    if len(shown) > _MOST_ROWS:
        shown = shown[: _MOST_ROWS - 1]
    named = list(splits) if _split(found) else []
    rows = [
        [
            _short(label),
            *(f"{counts.get(split, 0):,}" for split in named),
            f"{sum(counts.values()):,}",
        ]
        for label, counts in shown
    ]
    if rows:
        lines(*table(["label", *named, "images"], rows))
    if len(shown) < len(classes):
        lines(f"  and {len(classes) - len(shown):,} more labels")
    if found.passed_over:
        over = ", ".join(f"{number:,} {what}" for what, number in found.passed_over.items())
        lines(f"  passed over: {over}")
    lines(*(f"  note: {note}" for note in (*found.notes, *found.label_notes)))


def values(found: "Listing") -> dict[str, Any]:
    """The same for programs."""
    return {
        "source": found.name,
        "images": len(found),
        "classes": found.classes,
        "splits": found.splits,
        "groups": len(found.groups),
        "passed_over": dict(found.passed_over),
        "notes": [*found.notes, *found.label_notes],
    }


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST else label[: _LONGEST - 3] + "..."


def _split(found: "Listing") -> bool:
    return set(found.splits) != {"none"}
