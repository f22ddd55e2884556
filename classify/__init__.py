"""Features -> heads: scikit-learn classifiers, trained in seconds and scored without a leak.

This folder is imported as ``headstart.classify`` and never loads TensorFlow.
"""

from .comparison import Comparison, compare
from .curve import LearningCurve, learning_curve
from .head import Head, Prediction, load_head
from .scores.evaluation import Scores
from .scores.leaderboard import Standing
from .training import evaluate, train, train_all

__all__ = [
    "Comparison",
    "Head",
    "LearningCurve",
    "Prediction",
    "Scores",
    "Standing",
    "compare",
    "evaluate",
    "learning_curve",
    "load_head",
    "train",
    "train_all",
]
