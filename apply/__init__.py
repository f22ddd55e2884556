"""A head meets images: predictions, and models of backbone and head for use elsewhere.

This folder is imported as ``headstart.apply``.
"""

from .export import Exported, export
from .predict import predict
from .predictions import Predictions

__all__ = ["Exported", "Predictions", "export", "predict"]
