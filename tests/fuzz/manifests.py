"""Manifests: the images that they may list, and tables of any make."""

import csv
import io
import os

from hypothesis import strategies as st

HERE = [b"a.jpg", b"b.png", b"sub/c.PNG", "\u00fc.jpg".encode(), b"\xff.jpg", b'q"uote.png']
HERE += [b"new\nline.png", b"com,ma.png", b" space .png", b"dangling.png", b"folder.jpg"]
OTHER_NAMES = [b"./a.jpg", b"sub/../a.jpg", b"link/../a.jpg", b"link/c.PNG", b"missing.png"]
OTHER_NAMES += [b"", b".", b"..", b"/", b"sub", b"a\0.jpg", b"x/" * 3000, b"y" * 140_000]


def fill(folder: bytes) -> None:
    """Put the images of `HERE` into an empty folder, and what else their paths go by."""
    elsewhere = os.path.join(folder, b"elsewhere", b"deep")
    os.makedirs(elsewhere)
    os.mkdir(os.path.join(folder, b"sub"))
    os.mkdir(os.path.join(folder, b"folder.jpg"))
    os.symlink(elsewhere, os.path.join(folder, b"link"))
    os.symlink(b"nowhere", os.path.join(folder, b"dangling.png"))
    for name in HERE[:9]:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"x")


NAMES = (st.sampled_from(HERE) | st.sampled_from(OTHER_NAMES) | st.binary(max_size=6)).map(
    os.fsdecode
)
CELLS = (
    NAMES
    | st.sampled_from(["train", "Val", " test ", "none", "", "cat", "=1+1", "\ufeff", "\x1b[2J"])
    | st.text(max_size=5)
)
SPLITS = {"": "none", "none": "none", "train": "train", "val": "validation", "test": "test"}
SPLITS |= {"valid": "validation", "validation": "validation"}
PROPER = ["path", "label", "split"]
HEADERS = st.one_of(
    st.just(PROPER),
    st.just([" path", "label "]),
    st.lists(
        st.sampled_from([*PROPER, " path ", "PATH", "", "more", "group"]) | st.text(max_size=3),
        max_size=5,
    ),
)
CSV = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from(",,,,,,;\t|"),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        "lineterminator": st.sampled_from(["\n", "\r\n", "\r"]),
    }
)
ENCODINGS = st.sampled_from(
    [*["utf-8"] * 6, "utf-8-sig", "utf-8-sig", "utf-16", "latin-1", "cp1252"]
)
GOOD_ROWS = st.lists(
    st.tuples(
        st.sampled_from(HERE).map(os.fsdecode),
        CELLS,
        st.sampled_from(["train", "VAL", " test ", "none", ""]),
    ).map(list),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row[0],
)
TABLES = st.tuples(HEADERS, GOOD_ROWS) | st.tuples(
    HEADERS,
    st.tuples(GOOD_ROWS, st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=3)).map(
        lambda both: both[0] + both[1]
    ),
)


def written(table, encoding: str, options) -> bytes:
    """A table as a CSV file."""
    text = io.StringIO(newline="")
    header, rows = table
    csv.writer(text, **options).writerows([header, *rows])
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    return text.getvalue().encode(encoding, errors)
