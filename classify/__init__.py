"""Features -> heads: scikit-learn classifiers, trained in seconds and scored without a leak.

This folder is imported as ``headstart.classify`` and never loads TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .head import Head, Prediction, load_head
    from .heads.scaling import ShrunkenScaler
    from .scores.evaluation import Scores
    from .scores.leaderboard import Standing
    from .studies.audit import Audit, Suspect, audit
    from .studies.comparison import Comparison, compare
    from .studies.curve import LearningCurve, learning_curve
    from .studies.evaluate import evaluate
    from .studies.review import Review, review
    from .training import train, train_all

__all__ = [
    "Audit",
    "Comparison",
    "Head",
    "LearningCurve",
    "Prediction",
    "Review",
    "Scores",
    "ShrunkenScaler",
    "Standing",
    "Suspect",
    "audit",
    "compare",
    "evaluate",
    "learning_curve",
    "load_head",
    "review",
    "train",
    "train_all",
]

_HOMES: Final = {
    "head": ("Head", "Prediction", "load_head"),
    "heads.scaling": ("ShrunkenScaler",),
    "scores.evaluation": ("Scores",),
    "scores.leaderboard": ("Standing",),
    "studies.audit": ("Audit", "Suspect", "audit"),
    "studies.comparison": ("Comparison", "compare"),
    "studies.curve": ("LearningCurve", "learning_curve"),
    "studies.evaluate": ("evaluate",),
    "studies.review": ("Review", "review"),
    "training": ("train", "train_all"),
}


if not TYPE_CHECKING:  # for which a misspelt name shall be an error

    def __getattr__(name):
        # Whoever only predicts need not wait for what trains and audits.
        for home, names in _HOMES.items():
            if name in names:
                found = getattr(importlib.import_module(f"{__name__}.{home}"), name)
                globals()[name] = found
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
