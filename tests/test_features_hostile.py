"""Feature files that somebody made to mislead or to break: each command answers in one line."""

import contextlib
import dataclasses
import io
import json
import warnings
from collections.abc import Callable

import h5py
import numpy as np
import pytest
from headstart.apply import predict
from headstart.classify import compare, evaluate, train
from headstart.cli.printing import features as printed
from headstart.extract import scan
from headstart.extract.pipeline import run
from headstart.features import FeatureStore, HeadstartError, layout, verify
from headstart.features.opening import CannotRead
from headstart.features.provenance import Provenance
from headstart.features.verification import content_digest

LONG = "x" * 60_000

# What may be written into a file, by the name of the change. Every change leaves HDF5 itself sound,
# and `sealed_again` makes digest and fingerprint those of what is there then: both are anybody's to
# compute, so nothing but the rules stands between such a file and those who open it.


def write(name: str, row: int, value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[name][row] = value

    return change


def field(name: str, of: str, row: int, value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        entry = file[name][row]
        entry[of] = value
        file[name][row] = entry

    return change


def replace(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        array = make(file[name][()])
        del file[name]
        layout.create(file, name, array.shape, array.dtype)[...] = array

    return change


def attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = np.bytes_(value) if isinstance(value, bytes | str) else value

    return change


def in_json(name: str, **values: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        fields = json.loads(file.attrs[name]) | values
        kept = {key: value for key, value in fields.items() if value is not REMOVED}
        layout.set_text(file, name, json.dumps(kept, sort_keys=True, separators=(",", ":")))

    return change


def nothing(file: h5py.File) -> None:
    """Takes all rows out."""
    for name in (*layout.PER_ROW, layout.LABEL_NAMES, layout.GROUP_NAMES, layout.SKIPPED):
        file[name].resize(0, axis=0)


def without_length(file: h5py.File) -> None:
    rows = len(file[layout.FEATURES])
    del file[layout.FEATURES]
    file.create_dataset(layout.FEATURES, (rows, 0), np.float32)


def skipping(*files: tuple[bytes, bytes]) -> Callable[[h5py.File], None]:
    """A ledger of these paths and reasons."""

    def make(_: np.ndarray) -> np.ndarray:
        ledger = np.zeros(len(files), layout.files_dtype(20, 20))
        for row, (path, reason) in enumerate(files):
            ledger[row]["path"], ledger[row]["reason"] = path, reason
        return ledger

    return replace(layout.SKIPPED, make)


REMOVED = object()
TEXTS = (layout.PROVENANCE_ATTRIBUTE, layout.ENVIRONMENT_ATTRIBUTE)
NESTED = json.loads("[" * 400 + "]" * 400)
ODD = {
    "null": None, "list": [1], "object": {"a": 1}, "number": 1.5, "negative": -1, "true": True,
    "infinite": float("inf"), "not a number": float("nan"), "nested": NESTED, "huge": 10**4000,
}  # fmt: skip

CHANGES: dict[str, Callable[[h5py.File], None]] = {
    **{
        f"{name} {value}": write(name, 3, value)
        for name, values in {
            layout.LABELS: (-2, 2, 127, -(2**31), 2**31 - 1),
            layout.SPLITS: (-1, 4, 127, -128),
            layout.GROUPS: (-2, 2, 127, -(2**31), 2**31 - 1),
            layout.VIEWS: (-1, -2, -(2**15)),
        }.items()
        for value in values
    },
    **{
        f"{name} {value}": write(name, 0, value)
        for name in (layout.CANARY, layout.FEATURES)
        for value in (np.nan, np.inf, -np.inf)
    },
    "canary of zeros": write(layout.CANARY, 2, 0),
    "empty canary": lambda file: file[layout.CANARY].resize(0, axis=0),
    "wide canary": replace(layout.CANARY, lambda old: np.hstack([old, old])),
    "canary of another type": replace(layout.CANARY, lambda old: old.astype(np.float16)),
    "features of another type": replace(layout.FEATURES, lambda old: old.astype(np.float16)),
    "features of no length": without_length,
    "no rows": nothing,
    **{
        f"{what} {kind}": change
        for what, names in (("label", layout.LABEL_NAMES), ("group", layout.GROUP_NAMES))
        for kind, change in {
            "names gone": replace(names, lambda old: old[:0]),
            "names of one letter": replace(names, lambda old: old.astype("S1")),
            "name twice": replace(names, lambda old: old[[0, 0]]),
            "names turned": replace(names, lambda old: old[::-1]),
            "name without rows": replace(names, lambda old: np.append(old, b"zzz")),
            "name empty": write(names, 0, b""),
            "name not UTF-8": write(names, 1, b"\xff\xfe"),
            "name with NUL": write(names, 0, b"a\0b"),
            "name huge": replace(
                names, lambda old: np.array([old[0], LONG.encode()], f"S{len(LONG)}")
            ),
        }.items()
    },
    "groups of another type": replace(layout.GROUPS, lambda old: old.astype(np.int64)),
    "groups of more rows": replace(layout.GROUPS, lambda old: np.append(old, old)),
    "path twice": write(layout.PATHS, 1, b"blue/blue00.png"),
    "paths not sorted": write(layout.PATHS, 1, b"zzz"),
    "empty path": write(layout.PATHS, 0, b""),
    "path with NUL": write(layout.PATHS, 0, b"a\0b"),
    "path not UTF-8": write(layout.PATHS, 17, b"red\xff\n.png"),
    "huge path": replace(layout.PATHS, lambda old: np.append(old[:-1], LONG.encode())),
    "negative stats": replace(layout.STATS, lambda old: np.full_like(old, -1)),
    "reason not UTF-8": skipping((b"a.png", b"caf\xe9")),
    "no reason": skipping((b"a.png", b"")),
    "skipped twice": skipping((b"a.png", b"why"), (b"a.png", b"why")),
    "skipped not sorted": skipping((b"b.png", b"why"), (b"a.png", b"why")),
    "skipped and embedded": skipping((b"blue/blue00.png", b"why")),
    "skipped with NUL": skipping((b"a\0b", b"why\0not")),
    "skipped not UTF-8": skipping((b"\xff\n", b"line\nline")),
    **{
        f"{name} {kind}": attribute(name, value)
        for name in sorted(layout.ATTRIBUTES[layout.FORMAT])
        for kind, value in {
            "missing": None,
            "empty": h5py.Empty("S1"),
            "a number": 7.5,
            "an array": np.zeros(5),
            "huge": np.zeros(7_000),
            "not UTF-8": b"\xff\xfe",
            "with NUL": b"a\0b",
            "other text": b"other",
        }.items()
    },
    **{
        f"{name} {kind}": attribute(name, text)
        for name in TEXTS
        for kind, text in {
            "null": "null", "list": "[]", "number": "3", "text": '"x"', "object": "{}",
            "cut": '{"a": ', "nested": "[" * 10_000, "nested objects": '{"a":' * 10_000,
            "not a number": "NaN", "many digits": "9" * 5_000,
        }.items()
    },
    **{
        f"{name}.{of} {kind}": in_json(name, **{of: value})
        for name, fields in {
            layout.PROVENANCE_ATTRIBUTE: ("size", "backbone"),
            layout.ENVIRONMENT_ATTRIBUTE: ("weights", "engine"),
        }.items()
        for of in fields
        for kind, value in ODD.items()
    },
    **{
        f"{of} of the weights {kind}": in_json("environment", weights={"kind": "random", of: value})
        for of in ("kind", "path", "more")
        for kind, value in ODD.items()
    },
    **{
        f"{of} {str(value)[:20]}": in_json("provenance", **{of: value})
        for of, values in {
            "size": (0, 10**9, "71", REMOVED),
            "dimension": (0, 7, 9, 10**12),
            "precision": ("", "int8"),
            "weights_digest": ("", LONG, "../../other", "/other"),
            "dtype": ("float64", "object", ""),
            "backbone": (LONG, "\ud800", "None"),
            "more": ("unknown",),
        }.items()
        for value in values
    },
    "weights without kind": in_json("environment", weights={}),
    "no weights": in_json("environment", weights=REMOVED),
    "terminal escapes": in_json("environment", engine="\x1b[2J", device="a\nb"),
}  # fmt: skip

HARMLESS = {
    # These break no rule, though a command may have other reasons to refuse them.
    "no rows", "empty path", "path with NUL",
    "path not UTF-8", "huge path", "negative stats", "skipped with NUL", "skipped not UTF-8",
    "backbone \ud800", "backbone None", "environment object",
    "weights_digest ", "weights_digest ../../other", "weights_digest /other",
    *(
        f"{what} {kind}" for what in ("label", "group") for kind in
        ("names of one letter", "name empty", "name not UTF-8", "name with NUL", "name huge")
    ),
    "weights without kind", "no weights", "terminal escapes", "path of the weights null",
    *(f"environment.engine {kind}" for kind in ("null", "number", "negative", "true", "huge")),
}  # fmt: skip

READERS = {
    layout.FEATURES: {"train", "evaluate", "compare", "predict"},
    layout.PATHS: {"train", "evaluate", "compare", "predict", "extract"},
    layout.LABELS: {"info", "info --json", "train", "evaluate", "compare", "extract"},
    layout.LABEL_NAMES: {"info", "info --json", "train", "evaluate", "compare", "extract"},
    layout.SPLITS: {"info", "info --json", "train", "evaluate", "compare", "extract"},
    layout.GROUPS: {"info", "info --json", "train", "evaluate", "compare", "extract"},
    layout.GROUP_NAMES: {"info", "info --json", "extract"},
    layout.VIEWS: {"info", "info --json", "extract"},
    layout.SKIPPED: {"info", "info --json", "info --skipped", "predict", "extract"},
}
"""Which commands read a dataset, and so must refuse one that breaks a rule."""
NO_MATTER = {f"{names}: holds a name that no row has" for _, names in layout.NAMED}


def sealed_again(path) -> None:
    """Make fingerprint and content digest those of what the file holds now."""
    with h5py.File(path, "a") as file:
        try:
            text = bytes(file.attrs[layout.PROVENANCE_ATTRIBUTE]).decode()
            provenance = Provenance(**json.loads(text))
        except (KeyError, TypeError, ValueError, RecursionError):
            return
        layout.set_text(file, layout.FINGERPRINT_ATTRIBUTE, provenance.fingerprint)
        digest = content_digest(file, provenance)
        layout.set_text(file, layout.CONTENT_DIGEST_ATTRIBUTE, digest)


KNOWN = {}


@pytest.fixture
def sound(make_stub, fill_photos, tmp_path_factory):
    """A sound feature file, its images, and a head that was trained on others of the kind."""
    if not KNOWN:
        folder = tmp_path_factory.mktemp("sound")
        plain = scan(fill_photos(folder / "photos"))
        images = [
            dataclasses.replace(image, group=("lion", "tiger", None)[min(number, 2)])
            for number, image in enumerate(plain)
        ]
        photos = dataclasses.replace(plain, images=images)
        store = run(make_stub(), photos, folder / "sound.h5")
        head = train(store, folds=3)
        elsewhere = dataclasses.replace(head, training_images=np.zeros(0, np.uint64))
        KNOWN.update(photos=photos, store=store, head=elsewhere, data=store.path.read_bytes())
    return KNOWN


def uses(path, sound, stub):
    """What the commands do with a feature file, by their names."""
    head, other = sound["head"], sound["store"]
    return {
        "info": lambda: printed.store(FeatureStore(path), list_skipped=False, as_json=False),
        "info --json": lambda: printed.store(FeatureStore(path), list_skipped=True, as_json=True),
        "info --skipped": lambda: printed.store(
            FeatureStore(path), list_skipped=True, as_json=False
        ),
        "verify": lambda: verify(path),
        "train": lambda: train(FeatureStore(path), folds=3),
        "evaluate": lambda: evaluate(head, FeatureStore(path), "all"),
        "compare": lambda: compare([FeatureStore(path), other], folds=3),
        "predict": lambda: predict(head, path),
        "extract": lambda: run(stub, sound["photos"], path),
    }


@pytest.mark.parametrize("change", CHANGES)
def test_each_command_answers_a_hostile_file_in_one_line(change, sound, stub, tmp_path):
    path = tmp_path / "hostile.h5"
    path.write_bytes(sound["data"])
    with h5py.File(path, "a") as file:
        CHANGES[change](file)
    if not change.startswith(("content_digest", "fingerprint")):
        sealed_again(path)
    commands, answers = uses(path, sound, stub), {}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("error")
        for command, use in commands.items():
            try:
                answers[command] = use()
            except HeadstartError as error:
                answers[command] = error
    refused = {name for name, answer in answers.items() if isinstance(answer, HeadstartError)}
    for error in map(answers.get, refused):
        assert len(str(error).splitlines()) == 1
        assert len(str(error)) < 1000 or "name huge" in change
        assert not isinstance(error, CannotRead)
    if "verify" in refused:
        assert refused == commands.keys()
        assert change not in HARMLESS
        return
    problems = [problem for problem in answers["verify"] if problem not in NO_MATTER]
    assert bool(answers["verify"]) == (change not in HARMLESS)
    assert not any(problem.startswith("content digest") for problem in problems)
    for problem in problems:
        assert refused >= READERS[problem.split(":")[0]], problem
