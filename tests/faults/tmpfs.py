"""Runs on file systems that are really full: one small tmpfs after another, each a little larger.
Prints what was tried and what went wrong as JSON. Needs the right to mount, and disk.so preloaded
(as `sweep` does, though no call fails but for want of space).

    LD_PRELOAD=disk.so python tmpfs.py CONFTEST PHOTOS OLD.h5 EXPECTED MOUNTPOINT CHECKED SIZES

CHECKED is 1 to let the run check the free space before it seals, 0 to make it find out by failing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import sweep

AMPLE = 64 << 20
PAGE = 4096


def mount(folder: Path, size: int, *options: str) -> None:
    limit = ",".join([*options, f"size={size}"])
    subprocess.run(["mount", "-t", "tmpfs", "-o", limit, "tmpfs", folder], check=True)


def main() -> None:
    helpers = sweep.load_helpers(sys.argv[1])
    photos, old, expected, home = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], sys.argv[5]
    checked, sizes, home = sys.argv[6] == "1", int(sys.argv[7]), Path(home)
    if not checked:
        shutil.disk_usage = lambda _: SimpleNamespace(free=AMPLE)

    def make_space() -> None:
        mount(home, AMPLE, "remount")

    before = old.read_bytes()
    pages = -(-len(before) // PAGE)
    tally = sweep.Tally()
    for number in range(sizes):
        # From no room but for the old file, to room for the units and a new file beside it. The
        # check asks for more than these small files turn out to need.
        size = (pages + 2 + number * (8 if checked else 2) * pages // sizes) * PAGE
        mount(home, size)
        try:
            out = home / "out.h5"
            out.write_bytes(before)
            first = sweep.attempt(helpers, photos, out, "run", "off", 0)
            wrong = sweep.judge(helpers, photos, out, before, expected, "full", first, make_space)
            tally.add(f"{size} bytes", first, list(wrong), home)
        finally:
            subprocess.run(["umount", home], check=True)
    tally.print()


if __name__ == "__main__":
    main()
