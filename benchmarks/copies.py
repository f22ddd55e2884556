"""Near-copies of real photographs that are found, and different images that are taken for copies.

    HEADSTART_TEST_DATA=FOLDER python benchmarks/copies.py [--size 150] [--json FILE]

600 photographs of cats and dogs and copies of them, 1,797 handwritten digits; MobileNetV2 with
ImageNet weights. Three rules: the one of `classify.scores.duplicates`, "cosine above 0.9", and
"cosine above 0.9, or above 0.6 and 0.3 above the tenth neighbour", both of centred vectors.

one       150 copies of a kind among the 600: how many are in the group of their photograph; and how
          many of the 600 are in a group with another
versions  each of the 600, or of 40, in 6 or 15 versions
none      no copies at all, only different images: how many are in a group with others, and the
          largest group
later     a head trained on half of the photographs: how many copies of them, and how many of the
          other half, `Seen` takes for copies

`python benchmarks/copies.py --table FILE` prints the tables of a result again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from headstart.classify.scores.duplicates import Likeness
from headstart.classify.scores.seen import Seen
from headstart.extract import extract
from photographs import Step, burst, crop, digits, half, mirror, thumbnail
from PIL import Image
from scipy.sparse.csgraph import connected_components
from sklearn.datasets import load_digits

# name: steps, JPEG quality
KINDS: dict[str, tuple[list[Step], int]] = {
    "quality 40": ([], 40),
    "half": ([half], 85),
    "crop 5%": ([crop(5)], 85),
    "crop 10%": ([crop(10)], 85),
    "crop 20%": ([crop(20)], 85),
    "mirror": ([mirror], 85),
    "burst": ([burst], 85),
    "burst 2": ([burst], 85),
    "burst 3": ([burst], 85),
    "thumbnail 100": ([thumbnail(100)], 85),
    "thumbnail 64": ([thumbnail(64)], 85),
    "half, quality 40": ([half], 40),
    "mirror, quality 40": ([mirror], 40),
    "crop 10%, mirror": ([crop(10), mirror], 85),
    "burst, mirror, quality 40": ([burst, mirror], 40),
    "crop 20%, mirror, quality 40": ([crop(20), mirror], 40),
}
ONE = [kind for kind in KINDS if not kind.startswith("burst ")]
SIX = ["quality 40", "crop 10%", "mirror", "burst", "thumbnail 100"]
FIFTEEN = [kind for kind in KINDS if kind not in ("thumbnail 64", "crop 20%, mirror, quality 40")]


def write(number: int, path: Path, folder: Path) -> None:
    """One photograph and its copies."""
    image = Image.open(path).convert("RGB")
    for place, (kind, (steps, quality)) in enumerate(KINDS.items()):
        generator, copy = np.random.default_rng([number, place]), image
        for step in steps:
            copy = step(copy, generator)
        copy.save(folder / kind / f"{number:03}.jpg", quality=quality)
    (folder / "photograph" / f"{number:03}.jpg").write_bytes(path.read_bytes())


def vectors(folder: Path, data: Path, size: int) -> dict[str, np.ndarray]:
    """Kind -> (600, D), and those of the digits."""
    photographs = sorted((data / "images" / "cats_vs_dogs").rglob("*.jpg"))
    for kind in (*KINDS, "photograph", "digit"):
        (folder / kind).mkdir()
    with ProcessPoolExecutor() as pool:
        list(pool.map(write, range(600), photographs, [folder] * 600, chunksize=20))
    for number, (image, _) in enumerate(digits()):
        image.save(folder / "digit" / f"{number:04}.png")
    (weights,) = (data / "weights").glob("mobilenet_v2*")
    out = folder.parent / f"{folder.name}.h5"
    store = extract(folder, out, backbone="MobileNetV2", weights=weights, size=size)
    kinds = np.array([os.path.dirname(path) for path in store.paths])
    found = {kind: np.asarray(store.features[kinds == kind]) for kind in {*kinds.tolist()}}
    # The first 200 are the test split's; half of each split are cats.
    found["label"] = np.array(["cats" in path.parts for path in photographs], np.intp)
    return found


def here(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return Likeness.of(features, labels).chains


def fixed(features: np.ndarray, _: np.ndarray, tenth: bool = False) -> np.ndarray:
    """Groups by the cosine of centred vectors."""
    centred = features - features.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = centred @ centred.T
    np.fill_diagonal(cosines, -1)
    pairs = cosines > 0.9
    if tenth:
        around = np.partition(cosines, -10, axis=1)[:, -10]
        pairs |= (cosines > 0.6) & (cosines > np.maximum(around[:, None], around) + 0.3)
    return connected_components(pairs, directed=False)[1]


RULES = {"here": here, "0.9": fixed, "0.9 or tenth": lambda *what: fixed(*what, tenth=True)}


def judged(groups: np.ndarray, images: np.ndarray) -> dict[str, float]:
    """In percent: copies in the group of the first version; images in a group with others."""
    _, first, places = np.unique(images, return_index=True, return_inverse=True)
    copies = first[places] != np.arange(len(images))
    pairs = np.unique(np.stack([groups, images]), axis=1)
    sizes = np.unique(pairs[0], return_inverse=True, return_counts=True)
    several = sizes[2][sizes[1]] > 1
    found: dict[str, float] = {
        "joined": 100 * len(np.unique(pairs[1][several])) / len(first),
        "largest": int(sizes[2].max()),
    }
    if copies.any():
        same = groups[copies] == groups[first[places]][copies]
        found["found"] = 100 * float(same.mean())
    return found


def measured(data: Path, size: int) -> dict:
    """All figures of one size."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        of = vectors(images, data, size)
    photographs, label = of["photograph"], of["label"]
    everything, few = np.arange(600), np.random.default_rng(1).choice(600, 40, replace=False)
    cases: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # vectors, which image each is of
    for kind in ONE:
        rows = np.arange(0, 600, 4)
        cases[kind] = np.concatenate([photographs, of[kind][rows]]), np.r_[everything, rows]
    for name, kinds in {"6 versions": SIX, "15 versions": FIFTEEN[:14]}.items():
        for number, rows in ((600, everything), (40, few)):
            stack = np.concatenate([of[kind][rows] for kind in ("photograph", *kinds)])
            cases[f"{number} in {name}"] = stack, np.tile(rows, len(kinds) + 1)
    cases |= {"40 photographs": (photographs[few], few)}
    cases |= {"600 photographs": (photographs, everything)}
    result: dict = {"size": size, "cases": {}}
    for name, (features, rows) in cases.items():
        result["cases"][name] = {
            rule: judged(groups(features, label[rows]), rows) for rule, groups in RULES.items()
        }
    digits, numbers = of["digit"], load_digits().target
    for name, rows in {"1,797 digits": slice(None), "200 digits": slice(None, None, 9)}.items():
        result["cases"][name] = {
            rule: judged(groups(digits[rows], numbers[rows]), np.arange(1797)[rows])
            for rule, groups in RULES.items()
        }
    result["later"] = later(of)
    return result


def later(of: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Percent of what `Seen` takes for copies, after training on some of the photographs."""
    found: dict[str, dict[str, float]] = {}
    for number in (40, 100, 300):
        order = np.random.default_rng(2).permutation(600)
        trained, others = order[:number], order[number:]
        kept = Seen.of(of["photograph"][trained], 0, of["label"][trained])
        share = {"others": of["photograph"][others]} | {kind: of[kind][trained] for kind in ONE}
        found[str(number)] = {
            kind: 100 * float(kept.copies(rows).mean()) for kind, rows in share.items()
        }
    return found


def tables(results: list[dict]) -> str:
    """Markdown."""
    lines = []
    for result in results:
        lines += ["", f"{result['size']} pixels. Copies found / different images joined, in %", ""]
        lines += ["| | " + " | ".join(RULES) + " |", "| --- |" + " ---: |" * len(RULES)]
        for name, rules in result["cases"].items():
            cells = []
            for one in rules.values():
                found = f"{one['found']:.0f} / " if "found" in one else ""
                cells.append(f"{found}{one['joined']:.1f} (up to {one['largest']:.0f})")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        numbers = list(result["later"])
        lines += ["", "Told by a head, in %, by training images", ""]
        lines += ["| | " + " | ".join(numbers) + " |", "| --- |" + " ---: |" * len(numbers)]
        for kind in next(iter(result["later"].values())):
            cells = [f"{result['later'][number][kind]:.0f}" for number in numbers]
            lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", type=int, action="append", help="150 and 224 if not given")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    if asked.table:
        print(tables(json.loads(asked.table.read_text())))
        return
    data = Path(os.environ["HEADSTART_TEST_DATA"])
    results = [measured(data, size) for size in asked.size or (150, 224)]
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1) + "\n")
    print(tables(results))


if __name__ == "__main__":
    main()
