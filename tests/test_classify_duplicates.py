"""Near-copies, the groups they make, and what a head keeps to tell them later."""

import dataclasses

import numpy as np
import pytest
from headstart.classify.scores import seen, space
from headstart.classify.scores.duplicates import Likeness
from headstart.classify.scores.groups import Grouping, groups, together
from headstart.classify.scores.seen import Seen
from headstart.classify.scores.space import Space
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.decomposition import PCA


def photographs(rows, columns=600, seed=0):
    """Vectors with a spectrum like that of photographs, all of different ones."""
    generator = np.random.default_rng(seed)
    scales = np.arange(1, columns + 1) ** -0.5
    return (generator.normal(size=(rows, columns)) * scales).astype(np.float32)


def copies(features, apart=0.3, seed=1):
    """The same photographs again, with noise of a share `apart` of their own."""
    return (features + apart * photographs(*features.shape, seed)).astype(np.float32)


def sets(numbers):
    """The partition that numbers of rows stand for."""
    return {frozenset(np.flatnonzero(numbers == one).tolist()) for one in np.unique(numbers)}


def each(rows):
    return np.arange(rows, dtype=np.uint64)


def columns_of_numbers(columns):
    return arrays(np.int64, (columns, 12), elements=st.integers(0, 9))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3).flatmap(columns_of_numbers))
def test_rows_are_together_if_and_only_if_a_chain_of_equal_numbers_leads_between_them(columns):
    linked = (columns[:, :, None] == columns[:, None, :]).any(axis=0)
    for _ in range(12):
        linked = linked @ linked
    joined = together(*columns)
    np.testing.assert_array_equal(joined[:, None] == joined, linked)
    _, first = np.unique(joined, return_index=True)
    assert (np.diff(first) > 0).all()
    assert set(joined) == set(range(len(first)))


def test_copies_equal_bytes_and_given_groups_are_all_joined():
    features = photographs(300)
    features[10] = copies(features)[4]
    identities = each(300)
    identities[20] = identities[10]
    given_groups = np.full(300, -1)
    given_groups[[20, 30, 40]] = 7
    found = groups(features, identities, given_groups)
    assert sets(found) == {frozenset({4, 10, 20, 30, 40})} | {
        frozenset({row}) for row in range(300) if row not in (4, 10, 20, 30, 40)
    }
    assert sets(groups(features, identities)) - sets(found) == {
        frozenset({4, 10, 20}), frozenset({30}), frozenset({40}),
    }  # fmt: skip


def test_forty_files_of_the_same_bytes_do_not_hide_a_near_copy():
    features = photographs(200)
    features[:40] = features[0]
    features[199] = copies(features[:1])[0]
    identities = each(200)
    identities[:40] = 0
    assert frozenset({*range(40), 199}) in sets(groups(features, identities))


def test_each_row_knows_the_most_alike_image_of_other_bytes_and_that_of_another_label():
    features = photographs(200)
    features[100:102] = features[99]
    features[102] = copies(features[99:100], 0.2)[0]
    features[103] = copies(features[99:100], 0.4, seed=2)[0]
    identities = each(200) + 7
    identities[99:102] = 3
    labels = np.zeros(200, np.intp)
    labels[103] = 1
    grouping = Grouping(features, identities, labels=labels)
    partners, cosines = grouping.partners()
    assert partners[98:104].tolist() == [-1, 102, 102, 102, 99, 99]
    assert ((cosines > 0) == (partners >= 0)).all()
    assert grouping.partners(labels)[0][98:104].tolist() == [-1, 103, 103, 103, 103, 99]
    assert len(set(grouping.groups[99:104].tolist())) == 1


def exact(features):
    """`Space` by scikit-learn's exact components."""
    pca = PCA(min(256, features.shape[1], len(features) - 1), svd_solver="full").fit(features)
    vectors = (features - pca.mean_) @ pca.components_.T / np.sqrt(pca.singular_values_)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(("rows", "columns"), [(60, 700), (500, 32), (500, 700), (5000, 300)])
def test_cosines_are_those_along_exact_components(rows, columns):
    features = photographs(rows, columns)
    features[:20] = copies(features[20:40])
    one, other = Space.of(features).vectors(features)[:99], exact(features)[:99]
    np.testing.assert_allclose(one @ one.T, other @ other.T, atol=0.1)


def brute_force(vectors, labels):
    """The definition, with all cosines at once."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    rows, columns = vectors.shape
    rank = min(30, max(10, rows // 10))
    around = np.sort(cosines, axis=1)[:, -rank]
    for row in range(rows):
        members = np.flatnonzero(labels == labels[row])
        if len(members) > 2:
            of_class = np.sort(cosines[row, members])
            around[row] = max(around[row], of_class[-max(2, -(-len(members) // 4))])
    nearest = (0.5 + 0.2 * min(1, columns / rows)) * (1 - around) ** 2
    nearest = np.minimum(nearest, (1 - around) * (0.01 / rank) ** (2 / (columns - 1)))
    limits = np.clip(1 - nearest, 0.4, 1 - 1e-6)
    return np.where(cosines > np.maximum(limits[:, None], limits), cosines, 0)


@pytest.mark.parametrize("columns", [32, 700])
@pytest.mark.parametrize("cells", [1 << 24, 5000])
def test_near_copies_are_those_of_the_definition_in_one_block_or_many(columns, cells, monkeypatch):
    monkeypatch.setattr(space, "_CELLS", cells)
    generator = np.random.default_rng(0)
    features = photographs(500, columns)
    for start, apart in ((0, 0.1), (50, 0.3), (100, 0.6), (150, 1.0)):
        features[start : start + 50] = copies(features[start + 200 : start + 250], apart)
    labels = generator.integers(0, 4, 500)
    labels[400:] = np.arange(100) + 10  # classes of one
    pairs = brute_force(Space.of(features).vectors(features), labels)
    likeness = Likeness.of(features, labels)
    partners, cosines = likeness.partners
    np.testing.assert_array_equal(partners >= 0, (pairs > 0).any(axis=1))
    np.testing.assert_array_equal(partners[partners >= 0], pairs.argmax(axis=1)[partners >= 0])
    np.testing.assert_allclose(cosines, pairs.max(axis=1), atol=1e-5)
    linked = (pairs > 0) | np.eye(500, dtype=bool)
    for _ in range(9):
        linked = linked @ linked
    np.testing.assert_array_equal(likeness.chains[:, None] == likeness.chains, linked)
    assert (partners[:100] == np.arange(200, 300)).all()


def test_the_nearest_are_looked_for_where_one_asks_and_with_another_label_if_one_says_so():
    features = photographs(300)
    features[100:200] = copies(features[:100], 0.2)
    features[200:300] = copies(features[:100], 0.4, seed=2)
    likeness, rows = Likeness.of(features), np.arange(100)
    np.testing.assert_array_equal(likeness.nearest(rows, np.arange(100, 300))[0], rows + 100)
    np.testing.assert_array_equal(likeness.nearest(rows, np.arange(200, 300))[0], rows + 200)
    assert (likeness.nearest(rows, rows)[0] == -1).all()
    labels = np.repeat([0, 0, 1], 100)
    everything = np.arange(300)
    partners, cosines = likeness.nearest(everything, everything, labels)
    np.testing.assert_array_equal(partners[:200], np.tile(rows + 200, 2))
    assert (labels[partners] != labels).all()
    assert (cosines < likeness.partners[1])[:200].all()


@pytest.mark.parametrize("versions", [2, 6, 15])
@pytest.mark.parametrize("number", [40, 600])
def test_all_versions_of_a_photograph_are_one_group_and_no_two_photographs_are(versions, number):
    features = photographs(number)
    stack = np.concatenate([features, *(copies(features, 0.35, s) for s in range(1, versions))])
    found = groups(stack, each(len(stack)), labels=np.arange(len(stack)) % number % 2)
    assert sets(found) == {frozenset(range(row, len(stack), number)) for row in range(number)}


def test_images_of_a_tight_class_are_not_copies_but_a_copy_among_them_is():
    generator = np.random.default_rng(0)
    centres = 3 * photographs(8, seed=5)
    labels = np.repeat(np.arange(8), 12)
    features = centres[labels] + 0.3 * photographs(96)
    centred = features - features.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert (centred[0] @ centred[1:12].T > 0.9).all()  # what a fixed cosine would join
    assert len(sets(groups(features, each(96), labels=labels))) == 96
    features[1] = features[0] + 0.02 * generator.normal(size=600) * features.std(axis=0)
    found = groups(features, each(96), labels=labels)
    assert found[0] == found[1]
    assert len(sets(found)) == 95


@pytest.mark.parametrize("columns", [3, 6, 12, 40])
@pytest.mark.parametrize("rows", [50, 400])
def test_in_few_dimensions_chance_makes_hardly_any_copies(columns, rows):
    features = np.random.default_rng(columns).normal(size=(rows, columns)).astype(np.float32)
    partners, _ = Likeness.of(features).partners
    assert (partners >= 0).mean() <= 0.06


def test_many_copies_of_one_are_joined_without_a_list_of_all_pairs():
    features = copies(np.repeat(photographs(3), 1500, axis=0), 0.05)
    features = np.concatenate([features, photographs(600, seed=4)])
    found = np.bincount(Likeness.of(features).chains)
    assert sorted(found)[-4:] in ([1, 1500, 1500, 1500], [1, 1, 1, 1])


def test_vectors_that_are_all_the_same_have_no_copies_and_raise_no_warning():
    assert len(sets(groups(np.full((20, 7), 3.3, np.float32), each(20)))) == 20
    assert groups(np.ones((1, 7), np.float32), each(1)).tolist() == [0]
    half = photographs(30).astype(np.float16)
    assert len(sets(groups(half, each(30)))) == 30


def test_the_order_of_rows_decides_nothing_but_the_numbers():
    features = photographs(400)
    features[200:] = copies(features[:200], 0.7)
    order = np.random.default_rng(0).permutation(400)
    here, there = groups(features, each(400)), groups(features[order], each(400))
    assert 200 < len(sets(here)) < 400 or len(sets(here)) == 200
    assert {frozenset(order[list(one)].tolist()) for one in sets(there)} == sets(here)


def test_the_space_keeps_nothing_of_columns_that_are_constant():
    features = photographs(100, 50)
    wider = np.concatenate([features, np.full((100, 9), 5.5, np.float32)], axis=1)
    one, other = Space.of(features).vectors(features), Space.of(wider).vectors(wider)
    np.testing.assert_allclose(one @ one.T, other @ other.T, atol=1e-4)


@pytest.mark.parametrize("number", [30, 100, 500])
def test_a_head_tells_near_copies_of_its_training_images_from_others(number):
    training, others = photographs(number), photographs(1000, seed=9)
    kept = Seen.of(training, 0, np.arange(number) % 2)
    assert not kept.fault(600)
    assert kept.images == len(kept.vectors) == number
    assert kept.copies(copies(training, 0.25)).mean() >= 0.98
    assert kept.copies(training).all()
    assert kept.copies(others).mean() <= 0.02
    assert kept.copies(others[:0]).shape == (0,)


def test_with_little_room_a_head_keeps_fewer_components_and_then_fewer_images(monkeypatch):
    training = photographs(900, 200)
    again = copies(training, 0.25)
    sizes = []
    for room, components, images in (
        (4_500_000, 200, 900),
        (200_000, 151, 900),
        (130_000, 128, 596),
        (60_000, 75, 379),
    ):
        monkeypatch.setattr(seen, "BYTES", room)
        kept = Seen.of(training, 0)
        assert kept.vectors.shape == (images, components)
        assert kept.images == 900
        sizes.append(sum(a.nbytes for a in (kept.axes, kept.vectors, kept.limits)))
        assert sizes[-1] <= room
        share = len(kept.vectors) / 900
        assert share - 0.1 <= kept.copies(again).mean() <= share + 0.05
        same = Seen.of(training, 0)
        np.testing.assert_array_equal(same.vectors, kept.vectors)
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {"mean": s.mean[:-1]},
        lambda s: {"axes": s.axes[:, :-1]},
        lambda s: {"axes": s.axes[:-1]},
        lambda s: {"axes": s.axes[:, :0], "vectors": s.vectors[:, :0]},
        lambda s: {"vectors": s.vectors[:-1]},
        lambda s: {"vectors": s.vectors[:0], "limits": s.limits[:0]},
        lambda s: {"limits": s.limits[:, None]},
        lambda s: {"limits": s.limits * np.nan},
        lambda s: {"mean": s.mean * np.inf},
        lambda s: {"axes": np.full_like(s.axes, np.inf)},
        lambda s: {"images": 3},
    ],
)
def test_impossible_values_of_what_was_seen_are_a_fault(change):
    kept = Seen.of(photographs(40, 20), 0)
    assert kept.fault(20) == ""
    assert kept.fault(21)
    with np.errstate(invalid="ignore"):
        assert dataclasses.replace(kept, **change(kept)).fault(20)


def test_two_images_of_a_tight_class_are_not_copies_where_all_classes_are_as_small():
    generator = np.random.default_rng(0)
    classes = np.repeat(np.arange(100), 2)
    middles = generator.normal(size=(100, 64))
    features = middles[classes] + 0.25 * generator.normal(size=(200, 64))
    found = groups(features.astype(np.float32), np.arange(200, dtype=np.uint64), None, classes)
    assert len(np.unique(found)) > 150
    blind = groups(features.astype(np.float32), np.arange(200, dtype=np.uint64))
    assert len(np.unique(blind)) < 120


def test_vectors_along_a_single_line_have_no_near_copies():
    line = np.random.default_rng(0).normal(size=(60, 1)) * np.ones((1, 64))
    found = groups(line.astype(np.float32), np.arange(60, dtype=np.uint64))
    assert len(np.unique(found)) == 60
