"""Members of `.skops` files, a few things in them odd."""

import contextlib
import functools
import io
import json

import numpy as np
from hypothesis import strategies as st


def taken_apart(contents, strangers):
    """The members of a head, its plan, and where things and texts stand in that."""
    plan = json.loads(contents["schema.json"])
    places = list(strangers.places(plan))
    texts = [one for one in places if one[-1] == "content" and isinstance(at(plan, one), str)]
    return contents, plan, places, texts


def packed(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def at(tree, path):
    return functools.reduce(lambda inner, key: inner[key], path, tree)


@st.composite
def archives(draw, heads, strangers) -> dict[str, bytes]:
    """The members of one of the heads, changed in up to four places."""
    contents, plan, places, texts = heads[draw(st.sampled_from(sorted(heads)))]
    contents = dict(contents)
    values = st.sampled_from(strangers.ODD)
    arrays = [one for one in strangers.NOT_JSON if isinstance(one, np.ndarray)]
    place, text, name = (
        st.sampled_from(them)
        for them in (places, texts, [one for one in contents if one.endswith(".npy")])
    )
    for _ in range(draw(st.integers(1, 4))):
        with contextlib.suppress(KeyError, IndexError, TypeError):  # it is gone already
            match draw(st.integers(0, 8)):
                case 0:
                    plan = strangers.changed(plan, draw(place), draw(values))
                case 1:
                    plan = strangers.changed(plan, draw(place), strangers.DELETED)
                case 2:
                    plan = strangers.changed(plan, draw(place), at(plan, draw(place)))
                case 3 | 4:
                    plan = strangers.changed(plan, draw(text), json.dumps(draw(values)))
                case 5:
                    contents[draw(name)] = packed(draw(st.sampled_from(arrays)))
                case 6:
                    contents[draw(name)] = contents[draw(name)]
                case 7:
                    del contents[draw(name)]
                case 8:
                    changed = draw(name)
                    data = bytearray(contents[changed])
                    data[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
                    contents[changed] = bytes(data)
    return contents | {"schema.json": json.dumps(plan).encode()}
