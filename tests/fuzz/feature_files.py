"""Changes of feature files, and the rules of FORMAT.md by their words."""

import contextlib
import functools

import numpy as np
from headstart.features import FeatureStore, HeadstartError, layout
from hypothesis import strategies as st

VALUES = st.integers(-(2**31), 2**31 - 1) | st.sampled_from(
    [-2, -1, 0, 1, 127, 1e30, np.nan, np.inf]
)
ROWS = st.integers(0, 17)
NUMBERS = [layout.LABELS, layout.SPLITS, layout.GROUPS, layout.VIEWS]
NUMBERS += [layout.FEATURES, layout.CANARY]
FIELDS = ["size", "dimension", "backbone", "dtype", "engine", "weights", "source"]


def changes(hostile):
    """A change of a feature file, of those in `test_features_hostile` or like them."""
    odd = st.sampled_from(list(hostile.ODD.values())) | st.text(max_size=5) | st.integers()
    ledger = st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=3)
    names = st.sampled_from([layout.PATHS, layout.LABEL_NAMES, layout.GROUP_NAMES])
    return st.one_of(
        st.sampled_from(sorted(hostile.CHANGES)).map(hostile.CHANGES.get),
        st.builds(hostile.write, st.sampled_from(NUMBERS), ROWS, VALUES),
        st.builds(hostile.write, names, ROWS, st.binary(max_size=20)),
        st.builds(
            hostile.field,
            st.just(layout.STATS),
            st.sampled_from(layout.STATS_DTYPE.names),
            ROWS,
            st.integers(-(2**31), 2**31 - 1),
        ),
        st.builds(
            lambda name, field, value: hostile.in_json(name, **{field: value}),
            st.sampled_from(hostile.TEXTS),
            st.sampled_from(FIELDS) | st.text(max_size=3),
            odd,
        ),
        ledger.map(lambda files: hostile.skipping(*files)),
    )


def require_rules(path) -> None:
    """What can be read of a file keeps the rules of FORMAT.md, by their words."""

    def whole(name):
        with contextlib.suppress(HeadstartError):
            return FeatureStore(path).read(name)
        return None

    for codes, names in map(functools.partial(map, whole), layout.NAMED):
        if codes is not None and names is not None:
            assert set(codes.tolist()) <= set(range(-1, len(names)))
        if names is not None:
            assert names.tolist() == sorted(set(names.tolist()))
    if (splits := whole(layout.SPLITS)) is not None:
        assert set(splits.tolist()) <= {0, 1, 2, 3}
    if (views := whole(layout.VIEWS)) is not None:
        assert (views >= 0).all()
        if (paths := whole(layout.PATHS)) is not None:
            rows = list(zip(paths.tolist(), views.tolist(), strict=True))
            assert rows == sorted(set(rows))
