"""Writing the sealed file, in a process of its own.

The HDF5 library is known to bring down the process that it runs in when the disk fills or fails
under it. In a child that costs a message; in the parent it would cost the run.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from . import durable, layout
from .errors import FeatureFileError, HeadstartError
from .known import Known
from .orphan import end_with
from .verification import content_digest, verify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_FAILED = 3  # exit code of a child that wrote one line to say why
# 1,024 rows of 2,048 float32 are 8 MB: few reads, little memory.
_BLOCK_ROWS = 1024


@dataclasses.dataclass(frozen=True)
class _Job:
    """What the child gets: where the vectors are, and every dataset but those."""

    parent: int
    out: Path
    source: str
    fresh: bool
    arrays: Mapping[str, NDArray[Any]]
    digests: Sequence[bytes]


def write_in_child(
    known: Known, arrays: Mapping[str, NDArray[Any]], digests: Sequence[bytes]
) -> None:
    """Write ``known.out`` in a child process and wait for it.

    Parameters
    ----------
    known : Known
        Where the vectors are.
    arrays : mapping of str to ndarray
        Every dataset but `features` and `canary`, by name.
    digests : sequence of bytes
        The image of each row.

    Raises
    ------
    FeatureFileError
        If the file could not be written whole and read back equal.
    """
    needed = _bytes_needed(known, arrays, len(digests))
    free = shutil.disk_usage(known.out.parent).free
    if needed > free:
        raise durable.cannot_write(
            known.out,
            f"it needs {needed / 1e6:,.1f} MB on the disk of {known.out.parent}, where "
            f"{free / 1e6:,.1f} MB are free",
            full=True,
        )
    job = _Job(os.getpid(), known.out, known.source, known.fresh, arrays, digests)
    # -P: a file numpy.py in the working folder must not stand in for the real one.
    child = subprocess.run(
        [sys.executable, "-P", "-c", f"from {__name__} import main; main()"],
        input=pickle.dumps(job),
        capture_output=True,
        check=False,
    )
    if child.returncode == 0:
        return
    said = child.stderr.decode("utf-8", "surrogateescape").strip().splitlines()
    if child.returncode == _FAILED and said:
        raise FeatureFileError(said[-1])
    if child.returncode < 0:
        # HDF5 is known to crash after a failed write; the kernel kills for want of memory.
        how = f"was ended by {signal.Signals(-child.returncode).name} (a full disk, or no memory?)"
    else:
        how = f"failed: {said[-1] if said else child.returncode}"
    raise durable.cannot_write(known.out, f"the process that wrote it {how}")


def main() -> None:
    """Be the child: a job on standard input, a sealed file or one line of why not."""
    job = pickle.load(sys.stdin.buffer)  # from our own parent
    end_with(job.parent)
    try:
        _write(Known(job.out, source=job.source, fresh=job.fresh), job.arrays, job.digests)
    except HeadstartError as error:
        sys.stderr.buffer.write(" ".join(str(error).split("\n")).encode("utf-8", "surrogateescape"))
        sys.exit(_FAILED)


def _bytes_needed(known: Known, arrays: Mapping[str, NDArray[Any]], rows: int) -> int:
    origin = known.origin
    row_bytes = origin.canary[0].nbytes if origin is not None else 0
    # Each dataset's last chunk may be nearly empty.
    slack = min((len(arrays) + 2) * layout.CHUNK_BYTES, rows * row_bytes + (1 << 16))
    return rows * row_bytes + sum(a.nbytes for a in arrays.values()) + slack


def _write(known: Known, arrays: Mapping[str, NDArray[Any]], digests: Sequence[bytes]) -> None:
    origin = known.origin
    if origin is None:
        raise FeatureFileError(f"{known.out}: the finished work has vanished; run it again")
    provenance = origin.provenance
    environment = dict(origin.environment) | {
        "sealed": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    }
    try:
        with durable.replacing(known.out) as temporary:
            with h5py.File(temporary, "w", libver=layout.HDF5_VERSION) as file:
                layout.set_head(file, layout.FORMAT, provenance.to_json(), environment)
                layout.set_text(file, layout.FINGERPRINT_ATTRIBUTE, provenance.fingerprint)
                for name, array in {**arrays, layout.CANARY: origin.canary}.items():
                    layout.create(file, name, array.shape, array.dtype)[...] = array
                shape = (len(digests), provenance.dimension)
                dtype = np.dtype(provenance.dtype)
                features = layout.create(file, layout.FEATURES, shape, dtype)
                for start in range(0, len(digests), _BLOCK_ROWS):
                    block = digests[start : start + _BLOCK_ROWS]
                    features[start : start + len(block)] = known.vectors(block)
                digest = content_digest(file, provenance)
                layout.set_text(file, layout.CONTENT_DIGEST_ATTRIBUTE, digest)
            wrong = verify(temporary)
            if wrong:
                raise durable.cannot_write(known.out, f"it reads back wrong: {wrong[0]}")
    except KeyError as error:
        raise FeatureFileError(
            f"{known.out}: it was replaced by another run while it was sealed; run it again"
        ) from error
    except (OSError, RuntimeError) as error:
        raise durable.cannot_write(known.out, error) from error
