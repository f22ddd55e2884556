"""Features -> heads: scikit-learn classifiers, trained in seconds and scored without a leak.

This folder is imported as ``headstart.classify`` and never loads TensorFlow.
"""

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
