"""The feature file: one row per image, what made it, and how to trust it.

This folder is imported as ``headstart.features`` and needs nothing heavier than h5py.
"""

from .errors import (
    BackboneError,
    FeatureFileError,
    HeadError,
    HeadstartError,
    MissingExtra,
    ProvenanceMismatch,
    SourceError,
    TrainingError,
    WrongUsage,
)
from .provenance import Provenance
from .store import FeatureStore, Skipped
from .verification import verify

__all__ = [
    "BackboneError",
    "FeatureFileError",
    "FeatureStore",
    "HeadError",
    "HeadstartError",
    "MissingExtra",
    "Provenance",
    "ProvenanceMismatch",
    "Skipped",
    "SourceError",
    "TrainingError",
    "WrongUsage",
    "verify",
]
