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
from .journal.progress import showing_progress
from .journal.writing import Written, write
from .provenance import Given, Provenance
from .store import FeatureStore, Skipped
from .store import shards as shards
from .verification import verify

__all__ = [
    "BackboneError",
    "FeatureFileError",
    "FeatureStore",
    "Given",
    "HeadError",
    "HeadstartError",
    "MissingExtra",
    "Provenance",
    "ProvenanceMismatch",
    "Skipped",
    "SourceError",
    "TrainingError",
    "Written",
    "WrongUsage",
    "showing_progress",
    "verify",
    "write",
]
