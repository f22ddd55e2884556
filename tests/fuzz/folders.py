"""Folders of all that a file system can hold, and what `os.walk` sees of them."""

import contextlib
import io
import os

import numpy as np
from hypothesis import strategies as st
from PIL import Image

IMAGES = {}
for number in range(4):
    noise = np.random.default_rng(number).integers(0, 256, (9, 7 + number, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    IMAGES[number] = buffer.getvalue()
GOOD = frozenset(IMAGES.values())
IMAGES[4], IMAGES[5] = b"", b"no image"

WORDS = [b"a", b"A", b"train", b"Val", b"test", b"x.", b"-o", b" ", b"n" * 200, b"\n", b"\xff"]
FILE_NAMES = st.tuples(
    st.sampled_from([*[b""] * 7, b".", b".."]),
    st.sampled_from(WORDS) | st.binary(min_size=1, max_size=5),
    st.sampled_from([b".png", b".JPG", b".tiff", b".jpg.png", b"", b".txt", b"."]),
).map(lambda parts: b"".join(parts).translate(None, b"/\0"))
FILE_NAMES = FILE_NAMES.filter(lambda name: name.strip(b"."))
DATES = st.sampled_from([0, -1, -(2**62), 2**62, 10**18, 2**63 - 1, -(2**63), 5 * 10**18, 10**19])
LEAVES = st.one_of(
    st.tuples(st.just("image"), st.integers(0, 5), DATES),
    st.tuples(st.just("image"), st.integers(0, 3), DATES),
    st.tuples(
        st.just("link"),
        st.sampled_from(
            [b".", b"..", b"a.png", b"a/a.png", b"itself.png", b"/dev/zero", b"/proc/version"]
        ),
    ),
    st.tuples(st.just("pipe")),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.dictionaries(FILE_NAMES, inner, max_size=5) | st.tuples(st.just("deep"), inner)
    ),
    max_leaves=12,
)
FOLDERS = st.tuples(
    st.dictionaries(FILE_NAMES, TREES, max_size=6),
    st.sampled_from([{}, {b"a.png": ("image", 0, 0)}, {b"a": {b"a.png": ("image", 1, 10**18)}}]),
).map(lambda two: two[0] | two[1])


def plant(place: bytes, tree) -> None:
    """Make what a strategy drew."""
    if isinstance(tree, dict):
        os.mkdir(place)
        for name, inner in tree.items():
            plant(os.path.join(place, name), inner)
    elif tree[0] == "deep":
        below = os.path.join(place, *[b"d"] * 4)
        os.makedirs(below)
        plant(os.path.join(below, b"a.png"), tree[1])
    elif tree[0] == "image":
        with open(place, "wb") as file:
            file.write(IMAGES[tree[1]])
        with contextlib.suppress(OverflowError, OSError):  # what this file system does not have
            os.utime(place, ns=(tree[2], tree[2]))
    elif tree[0] == "link":
        os.symlink(tree[1], place)
    else:
        os.mkfifo(place)


def image_files(root: bytes) -> set[bytes]:
    """The paths below a folder that are named as images, as `os.walk` sees them."""
    found = set()
    for folder, inside, files in os.walk(root):
        inside[:] = [name for name in inside if not name.startswith(b".")]
        found |= {
            os.path.relpath(os.path.join(folder, name), root)
            for name in files
            if not name.startswith(b".")
            and os.path.splitext(name)[1].lower() in (b".png", b".jpg", b".tiff")
        }
    return found


def usable(root: bytes) -> list[bytes]:
    """Those of `image_files` that are images, and whose bytes can be read."""
    paths = [os.path.join(root, path) for path in image_files(root)]
    return [path for path in paths if os.path.isfile(path) and _bytes(path) in GOOD]


def _bytes(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()
