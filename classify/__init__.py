"""Features -> heads: scikit-learn classifiers, trained in seconds and scored without a leak.

This folder is imported as ``headstart.classify`` and never loads TensorFlow.
"""

from .evaluation import Scores
from .prediction import Head, Prediction, load_head
from .training import evaluate, train

__all__ = ["Head", "Prediction", "Scores", "evaluate", "load_head", "train"]
