"""What `honesty.py` measures on: real photographs and what becomes of them, drawings, made data."""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from pathlib import Path

import numpy as np
from headstart.features import FeatureStore
from headstart.features.layout import NO_GROUP, SPLIT_NAMES
from made import embeddings, origin
from photographs import burst, crop, digits, half, mirror, thumbnail, unchanged
from PIL import Image, ImageDraw, ImageFilter, ImageFont

WORDS = "the file edit view open save report total error value train score user login page".split()


class Vectors(FeatureStore):
    """A feature file that is none: (N, D) vectors and labels in memory, made in no time.

    `contents` says which rows are one image, byte by byte; by default none are.
    """

    def __init__(self, features, labels, splits=None, contents=None) -> None:
        number, self.dimension = features.shape
        self.path = Path("made.h5")
        self.origin = origin(self.dimension)
        self.content_digest = "0" * 64
        self._rows = number
        names, codes = np.unique(np.asarray(labels, object).astype(str), return_inverse=True)
        splits = ["none"] * number if splits is None else splits
        contents = range(number) if contents is None else contents
        digests = b"".join(int(one).to_bytes(32, "little") for one in contents)
        vars(self).update(
            features=np.ascontiguousarray(features, np.float32),
            labels=codes.astype(np.int32),
            label_names=names.tolist(),
            groups=np.full(number, NO_GROUP, np.int32),
            group_names=[],
            splits=np.array([SPLIT_NAMES.index(one) for one in splits], np.int8),
            views=np.zeros(number, np.int16),
            digests=np.frombuffer(digests, np.uint8).reshape(number, 32),
            raw_paths=[f"{row:06}.png".encode() for row in range(number)],
        )


@dataclasses.dataclass(frozen=True)
class Images:
    """Vectors of different images of one kind, and those of copies of them."""

    name: str
    vectors: np.ndarray
    """(N, D) float32."""
    labels: np.ndarray
    """(N,) str."""
    copies: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """Kind of copy -> (N, D), row by row."""

    def versions(self, rows: np.ndarray, kinds: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Those rows and their copies, one kind after the other; (n,) the image of each."""
        parts = [self.vectors[rows], *(self.copies[kind][rows] for kind in kinds)]
        return np.concatenate(parts), np.tile(np.arange(len(rows)), len(parts))


COPIES = {
    "re-encoded": (unchanged, 40),
    "half size": (half, 85),
    "crop": (crop(10), 85),
    "mirror": (mirror, 85),
    "burst": (burst, 85),
    "thumbnail": (thumbnail(64), 85),
}
"""Kind -> what is done to an image, and the quality it is saved with. Thumbnails have 64 pixels."""
VERSIONS = ("re-encoded", "half size", "crop", "mirror", "burst")
"""With the original, six versions of an image."""


# Pictures of other kinds, 100 of each.


def _plot(path: Path, generator: np.random.Generator) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=generator.choice([(4, 3), (5, 4), (4, 4), (6, 3)]), dpi=80)
    axes = figure.add_subplot()
    noise = partial(generator.normal, size=60)
    kind = generator.integers(6)
    if kind == 0:
        axes.plot(np.cumsum(generator.normal(size=(60, 3)), axis=0), label=WORDS[:3])
        axes.legend()
    elif kind == 1:
        axes.scatter(noise(), noise(), c=noise())
    elif kind == 2:
        axes.bar(WORDS[:6], generator.random(6))
    elif kind == 3:
        axes.hist(noise(), color=generator.random(3))
    elif kind == 4:
        figure.colorbar(axes.imshow(np.cumsum(generator.normal(size=(12, 12)), axis=0)))
    else:
        axes.errorbar(range(8), generator.random(8), yerr=generator.random(8) / 4, marker="o")
    axes.grid(visible=bool(generator.integers(2)))
    axes.set(**dict(zip(("title", "xlabel", "ylabel"), generator.choice(WORDS, 3), strict=True)))
    FigureCanvasAgg(figure).print_png(path)


def _screenshot(path: Path, generator: np.random.Generator) -> None:
    size = generator.choice([(640, 400), (800, 600), (500, 500), (400, 640)])
    image = Image.new("RGB", tuple(size.tolist()), tuple(generator.integers(60, 200, 3).tolist()))
    draw = ImageDraw.Draw(image)
    dark, bar = generator.random() < 1 / 3, tuple(generator.integers(40, 220, 3).tolist())
    paper, ink = ("#1e1e22", "#dcdcdc") if dark else ("#fafafa", "#191919")
    for _ in range(generator.integers(1, 4)):
        (left, top), (right, bottom) = (
            generator.integers(size // 4),
            generator.integers(size // 2, size),
        )
        draw.rectangle((left, top, right, bottom), paper, ink)
        draw.rectangle((left, top, right, top + 22), bar)
        for y in range(top + 4, bottom - 18, 20):
            text = " ".join(
                generator.choice(WORDS, generator.integers(1, max(2, (right - left) // 60)))
            )
            font = ImageFont.load_default(float(generator.choice([12, 14, 18])))
            draw.text((left + 8, y), text, ink if y > top + 4 else "white", font)
    image.save(path)


def _noise(path: Path, generator: np.random.Generator) -> None:
    cells = int(generator.choice([8, 32, 256]))
    pixels = generator.integers(0, 256, (cells, cells, 3))
    if generator.random() < 0.5:
        pixels = np.clip(generator.normal(pixels.mean(axis=2, keepdims=True), 40), 0, 255)
    image = Image.fromarray(pixels.astype(np.uint8)).resize((256, 256), Image.Resampling.NEAREST)
    image.filter(ImageFilter.GaussianBlur(int(generator.integers(4)))).save(path)


OTHERS = {"plots": _plot, "screenshots": _screenshot, "noise": _noise}


def _draw(data: Path, folder: Path) -> None:
    """All pictures, as KIND/CLASS/NAME."""

    def place(*parts: str) -> Path:
        path = folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    generator = np.random.default_rng(17)
    for path in sorted((data / "images" / "cats_vs_dogs").rglob("*.jpg")):
        of, image = path.parent.name, Image.open(path).convert("RGB")
        place("photographs", of, path.name).write_bytes(path.read_bytes())
        for kind, (change, quality) in COPIES.items():
            change(image, generator).save(place(kind, of, path.name), quality=quality)
    for row, (image, label) in enumerate(digits()):
        image.save(place("digits", str(label), f"{row:04}.png"))
    for kind, draw in OTHERS.items():
        for row in range(100):
            draw(place(kind, kind, f"{row:02}.png"), generator)


def pictures(size: int, data: Path, folder: Path) -> dict[str, Images]:
    """Photographs (with copies), digits, plots, screenshots, noise: MobileNetV2 at `size` pixels.

    The drawings and the feature files are kept in `folder`, and taken from there the next time.
    """
    from headstart.extract import extract

    if not (folder / "pictures").exists():
        _draw(data, folder / "drawing")
        (folder / "drawing").rename(folder / "pictures")
    weights = data / "weights" / "mobilenet_v2_imagenet_notop.weights.h5"
    store = extract(
        folder / "pictures",
        folder / f"pictures{size}.h5",
        backbone="MobileNetV2",
        weights=weights,
        size=size,
        labels="none",
    )
    kinds, labels, names = np.array([os.fsdecode(one).split("/") for one in store.raw_paths]).T
    found = {}
    for kind in ("photographs", "digits", *OTHERS):
        rows = np.flatnonzero(kinds == kind)
        found[kind] = Images(f"{kind} {size}", store.features[rows], labels[rows])
    originals = names[kinds == "photographs"].tolist()
    for kind in COPIES:
        rows = np.flatnonzero(kinds == kind)
        if names[rows].tolist() != originals:
            raise SystemExit(f"{folder}: it has other copies than photographs: remove it")
        found["photographs"].copies[kind] = store.features[rows]
    return found


def made_images(
    rows: int, classes: int, seed: int, *, apart: float = 1.0, dimension: int = 512
) -> Images:
    """Made vectors, with copies in five kinds that differ no more than a burst of a camera does."""
    vectors, codes = embeddings(rows, classes, apart=apart, dimension=dimension, seed=seed)
    images = Images("made", vectors, np.array([f"class {code:03}" for code in codes]))
    generator = np.random.default_rng([seed, 1])
    for kind in VERSIONS:
        # The difference looks like that of two images, and is a third of it: a cosine of 0.95.
        other = vectors[generator.permutation(rows)] - vectors.mean(axis=0)
        images.copies[kind] = (vectors + 0.33 * other).astype(np.float32)
    return images
