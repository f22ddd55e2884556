"""The moving statistics of a backbone with random weights, measured in little memory."""

import collections
import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_PIXELS_AT_ONCE: Final = 299**2
"""That an operation takes at once: two images of Xception's default size, and all of them where
they are small, since every call has its price."""
_KEPT_PER_PIXEL: Final = 12
"""Numbers that an operation may make of each pixel for its result to be kept until the next one
needs it. What is larger (Xception's first blocks make 31) is computed anew for each of those."""

_Step = tuple[Any, dict[int, Any], Any]
"""A layer to measure, or None; the tensors by id that are kept, and what is computed of them."""


def calibrate(model: Any, images: NDArray[np.float32]) -> None:
    """Set the moving statistics of every BatchNormalization layer to those of all `images`.

    As ``model(images, training=True)`` does with a momentum of 0 and without dropout. But that
    keeps what every layer makes of all images until its end: 9.5 GB for Xception at 299 pixels.
    Here each operation takes a few images at a time, and what no further one needs is let go.
    """
    import keras

    pixels = images.shape[1] * images.shape[2]
    steps = _steps(model, _KEPT_PER_PIXEL * pixels)
    waiting = collections.Counter(place for _, sources, _ in steps for place in sources)
    parts = min(len(images), -(-len(images) * pixels // _PIXELS_AT_ONCE))
    made: dict[int, list[Any]] = {id(model.inputs[0]): np.array_split(images, parts)}

    def computed(sources: dict[int, Any], target: Any) -> Iterator[Any]:
        waiting.subtract(sources.keys())
        step = None if id(target) in made else keras.Function([*sources.values()], target)
        for part in range(parts):
            taken = [made[place][part] for place in sources]
            for place in sources:
                if not waiting[place]:
                    made[place][part] = None
            yield taken[0] if step is None else step(taken)

    for layer, sources, target in steps:
        if layer is None:
            made[id(target)] = list(computed(sources, target))
        else:
            _measure(layer, computed(sources, target))


def _steps(model: Any, most: int) -> list[_Step]:
    """What has to be computed to measure each layer, in order.

    What is kept has up to `most` numbers an image; the rest is inside the steps that need it. No
    layer is used twice.
    """
    import keras

    steps: list[_Step] = []
    kept = {id(tensor): {id(tensor): tensor} for tensor in model.inputs}
    for one in model.operations:
        if isinstance(one, keras.layers.InputLayer):
            continue
        sources: dict[int, Any] = {}
        for tensor in keras.tree.flatten(one.input):
            sources |= kept[id(tensor)]
        if isinstance(one, keras.layers.BatchNormalization):
            steps.append((one, kept[id(one.input)], one.input))
        for tensor in keras.tree.flatten(one.output):
            kept[id(tensor)] = sources
            if math.prod(tensor.shape[1:]) <= most:
                kept[id(tensor)] = {id(tensor): tensor}
                steps.append((None, sources, tensor))
    needed: set[int] = set()
    used = []
    for layer, sources, target in reversed(steps):
        if layer is not None or id(target) in needed:
            used.append((layer, sources, target))
            needed.update(sources)
    return used[::-1]


def _measure(layer: Any, parts: Iterable[Any]) -> None:
    """Set the moving statistics of a BatchNormalization layer to those of all parts of a batch."""
    from keras import ops

    moments = [(len(part), *ops.moments(part, [0, 1, 2])) for part in parts]
    images = sum(number for number, _, _ in moments)
    mean = sum(own * (number / images) for number, own, _ in moments)
    variance = sum(
        (own_variance + ops.square(own - mean)) * (number / images)
        for number, own, own_variance in moments
    )
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
