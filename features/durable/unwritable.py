"""What is said of a file that could not be written."""

import errno
import os
import re
from pathlib import Path
from typing import Final

from ..errors import FeatureFileError, HeadstartError, first_line

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_NOT_THERE: Final = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOENT),
)


def cannot_write(
    path: Path, why: Exception | str, *, full: bool = False, work_kept: bool = True
) -> HeadstartError:
    """The error to raise when `path` could not be written: why, and how to go on.

    `path` is what the user knows the file by, not a temporary name. h5py reports a full disk as
    OSError or RuntimeError, with the reason of the operating system somewhere inside a long text.
    `work_kept` is for feature files, whose finished units stay; other files are whole or nothing.
    """
    inside = re.search(r"error message = '([^']*)'", str(why))
    if inside:
        reason = inside[1]
    elif isinstance(why, OSError) and why.strerror:
        reason = why.strerror
    else:
        reason = first_line(why)
    remedy = "run the same command again"
    if full or reason in map(os.strerror, _FULL):
        remedy = f"make space on the disk and {remedy}"
    elif reason in map(os.strerror, _NOT_THERE):
        remedy = "choose another output"
        if os.name == "nt":  # where a file that some program has open cannot be replaced
            remedy = f"close it where it is open, or {remedy}"
    if work_kept:
        return FeatureFileError(
            f"{path}: cannot be written: {reason}. What was there before and the finished work are "
            f"kept; {remedy}"
        )
    return HeadstartError(
        f"{path}: cannot be written: {reason}. What was there before is kept; {remedy}"
    )
