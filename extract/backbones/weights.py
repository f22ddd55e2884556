"""Where the weights of a backbone come from, how they get into the model, and their digest."""

import contextlib
import dataclasses
import hashlib
import inspect
import io
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from ...features import layout
from ...features.digest import ArrayDigest
from ...features.durable.remote.url import is_remote, public
from ...features.errors import BackboneError, WrongUsage, first_line
from ...features.opening import text_attribute
from ...features.origin import INT8
from ...features.provenance import Provenance
from ...features.provenance.graph import QUANTISED as QUANTISED
from ...features.store import FeatureStore
from .statistics import calibrate

IMAGENET: Final = "imagenet"
RANDOM: Final = "random"
FILE: Final = "file"

_RANDOM_SEED: Final = 0
RANDOM_SCHEME: Final = "He normal, seed 0, BatchNorm calibrated on 32 synthetic images, version 1"

# A firewall that swallows packets must not hold a run up for minutes; Keras sets no limit.
_DOWNLOAD_TIMEOUT_S: Final = 20.0


@dataclasses.dataclass(frozen=True)
class WeightsSource:
    """Where the weights come from: recorded, and found again when a head predicts."""

    kind: str
    """``"imagenet"``, ``"random"``, ``"file"`` or ``"quantised"``."""
    path: str | None = None
    """Absolute path of the file, for ``"file"``; of the feature file in which the graph is, for
    ``"quantised"``."""
    sha256: str | None = None
    """Of the file's bytes (hexadecimal), for ``"file"``; of the graph, for ``"quantised"``."""

    @classmethod
    def named(cls, weights: str | os.PathLike[str]) -> "WeightsSource":
        """From ``"imagenet"``, ``"random"`` or the path of a weights file, or of a feature file."""
        name = os.fspath(weights) if isinstance(weights, str | os.PathLike) else weights
        if name in (IMAGENET, RANDOM):
            return cls(name)
        if isinstance(name, str) and is_remote(name):
            return cls(QUANTISED, name, _quantised_in(name).weights_digest)
        if not isinstance(name, str) or not os.path.isfile(name):
            raise WrongUsage(
                f"weights {name!r}: no such file; give 'imagenet', 'random' or a weights file"
            )
        path = Path(name).absolute()
        if path.suffix != ".h5":
            raise WrongUsage(
                f"weights {name}: a file ending in .h5 or .weights.h5 is expected; whole models "
                f"are not loaded, because loading one runs its code: save its weights alone"
            )
        if _is_feature_file(path):
            return cls(QUANTISED, str(path), _quantised_in(name).weights_digest)
        return cls(FILE, str(path), sha256(path))

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> "WeightsSource":
        """Read `record` back; a weights file must still be where it was."""
        source = cls(**record)
        there = source.path is None or is_remote(source.path) or os.path.isfile(source.path)
        if not there:
            what, file = f"the weights file {source.path}", "FILE"
            if source.kind == QUANTISED:
                what, file = (
                    f"{source.path}, the feature file with the quantised backbone",
                    "FILE.h5",
                )
            raise BackboneError(
                f"{what} (SHA-256 {source.sha256}) is no longer there; put it back, or say where "
                f"it is with --weights {file}"
            )
        return source

    def record(self) -> dict[str, str | None]:
        """As plain values, without passwords."""
        path = self.path
        shown = public(path) if path is not None and is_remote(path) else path
        return {**dataclasses.asdict(self), "path": shown}

    def same(self, other: Mapping[str, Any]) -> bool:
        """Whether a record names the same weights, wherever the file was."""
        return (self.kind, self.sha256) == (other.get("kind"), other.get("sha256"))

    def __str__(self) -> str:
        return self.kind if self.kind == QUANTISED else self.path or self.kind


def _quantised_in(name: str) -> Provenance:
    """What a feature file with a quantised backbone says of it."""
    made = FeatureStore(name).origin.of_images("be the weights of a backbone")
    if made.precision != INT8:
        raise WrongUsage(
            f"weights {name}: is a feature file of precision {made.precision}, which holds no "
            f"backbone; give a weights file, or a feature file of precision {INT8}"
        )
    return made


def _is_feature_file(path: Path) -> bool:
    with contextlib.suppress(OSError, RuntimeError), h5py.File(path, "r", locking=False) as file:
        return text_attribute(file, layout.FORMAT_ATTRIBUTE) == layout.FORMAT
    return False


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes (hexadecimal)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(model: Any) -> str:
    """SHA-256 over the weight arrays of a Keras model, in its order (hexadecimal).

    Names are left out: Keras numbers its layers anew in every process.
    """
    import keras

    total = ArrayDigest()
    for variable in model.weights:  # one by one: all of them are a second copy of the model
        total.array("", keras.ops.convert_to_numpy(variable))
    return total.hexdigest()


def load_file(model: Any, source: WeightsSource) -> str:
    """Fill a model from a weights file, in Keras' own or the older layout; return the digest."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.load_weights(source.path)
        skipped = [one for one in caught if one.category is UserWarning]
    except Exception as error:
        # Keras raises ValueError, KeyError, OSError and others, depending on what is wrong.
        raise _foreign(model, source, first_line(error)) from error
    # Keras only warns when it leaves part of a model as it was initialised.
    if skipped:
        raise _foreign(model, source, str(skipped[0].message))
    # What was loaded is kept under the checksum of the file, so it must be that file.
    if (found := sha256(Path(str(source.path)))) != source.sha256:
        raise BackboneError(
            f"{source.path}: not the weights file that was asked for: its SHA-256 is {found}, "
            f"expected {source.sha256}; put that file back, or say where it is with --weights FILE"
        )
    return digest(model)


def _foreign(model: Any, source: WeightsSource, why: str) -> BackboneError:
    return BackboneError(
        f"{source.path}: not the weights of {model.name} without its top layers "
        f"(include_top=False): {why}"
    )


def fill_random(model: Any, calibration: NDArray[np.float32]) -> str:
    """Fill a model with seeded random weights that keep signals alive; return the digest.

    Kernels are He normal: standard deviation ``sqrt(2 / fan in)`` (He et al. 2015,
    arXiv:1502.01852, eq. 10). The moving statistics of every BatchNormalization layer are set to
    those of `calibration`, normalised images (n, size, size, 3): without this the signals of an
    untrained Xception fade or explode. The model has no top layers and is not frozen yet.

    The digest is that of the drawn arrays and of the scheme. The measured statistics are left out,
    since their last bits depend on the machine; the canary watches over those.
    """
    generator = np.random.default_rng(_RANDOM_SEED)
    for variable in model.weights:
        if "kernel" in variable.name:
            shape = variable.shape
            # A depthwise kernel, (height, width, channels, 1), sums over its window only.
            fan_in = np.prod(shape[:-1]) if shape[-1] > 1 else np.prod(shape[:2])
            drawn = generator.standard_normal(shape, np.float32)
            variable.assign(drawn * np.float32(np.sqrt(2.0 / fan_in)))
    drawn_digest = digest(model)
    calibrate(model, calibration)
    scheme = hashlib.sha256(f"{RANDOM_SCHEME} {drawn_digest}".encode())
    return scheme.hexdigest()


@contextlib.contextmanager
def imagenet_download(name: str) -> Iterator[None]:
    """Run Keras' own download of ImageNet weights, with a time limit and a readable failure.

    The error names the file, where to put it, its checksum and the two other choices.
    """
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    try:
        # Keras reports the download on standard output, which is for results.
        with contextlib.redirect_stdout(sys.stderr or io.StringIO()), warnings.catch_warnings():
            # "Weights for input shape (224, 224) will be loaded as the default": as intended.
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise BackboneError(
            f"ImageNet weights for {name} are not available: {first_line(error)}. "
            f"{_where_to_put_it(error)}or use --weights FILE, or --weights random"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def _where_to_put_it(error: Exception) -> str:
    # The public function that downloads was called with the name of the file and its checksum;
    # reading them from the call that failed keeps a table of checksums out of this project.
    # Replacing the function by one that records them would change Keras for the whole process.
    import keras

    downloading = inspect.unwrap(keras.utils.get_file).__code__
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is downloading:
            known = frame.f_locals
            checksum = known.get("file_hash") or ""
            kind = {0: "Keras knows no checksum of it", 32: "md5"}.get(len(checksum), "SHA-256")
            described = f"{kind} {checksum}".strip()
            return f"Put {known.get('fname')} ({described}) into {known.get('datadir')}, "
    return "Download it with Keras elsewhere and copy the file into ~/.keras/models, "
