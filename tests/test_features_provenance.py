import dataclasses
import json

import numpy as np
import pytest
from headstart.features import FeatureFileError, Provenance, ProvenanceMismatch
from headstart.features.origin import Origin

ONE = Provenance(
    backbone="Xception",
    weights_digest="a" * 64,
    pooling="avg",
    size=299,
    dimension=2048,
    decode="d",
    resize="r",
    fit="stretch",
    normalisation="n",
    precision="f32",
    dtype="float32",
    preprocessing_version=1,
)
FIELDS = [field.name for field in dataclasses.fields(Provenance)]


def origin(provenance: Provenance, name: str) -> Origin:
    return Origin(provenance, {}, np.ones((8, 2)), name, "What to do")


def changed(field: str) -> Provenance:
    value = getattr(ONE, field)
    return dataclasses.replace(ONE, **{field: value + (1 if isinstance(value, int) else "x")})


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_changes_the_fingerprint_and_is_named_when_it_differs(field):
    other = changed(field)
    assert other.fingerprint != ONE.fingerprint
    with pytest.raises(ProvenanceMismatch, match=rf"this file.*that one.*{field} is .*What to do"):
        origin(ONE, "this file").require(origin(other, "that one"))


def test_equal_provenances_are_the_same():
    origin(ONE, "a").require(origin(dataclasses.replace(ONE), "b"))
    assert dataclasses.replace(ONE).fingerprint == ONE.fingerprint


def test_its_repr_is_one_line_with_what_tells_two_files_apart():
    expected = "Provenance(Xception at 299 px, f32, stretch, float32, weights aaaaaaaa...)"
    assert repr(ONE) == expected


def test_json_is_canonical_and_reads_back():
    text = ONE.to_json()
    assert Provenance.from_json(text) == ONE
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", "[" * 9999, "9" * 9999, ONE.to_json().replace("299", '"299"')]
)
def test_json_with_missing_or_mistyped_fields_is_refused(text):
    with pytest.raises(FeatureFileError, match="provenance") as refused:
        Provenance.from_json(text)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 0),
        ("size", True),
        ("size", 10**9),
        ("dimension", -1),
        ("dimension", 2**40),
        ("precision", "f64"),
        ("dtype", "object"),
        ("backbone", "x" * 5000),
        ("more", 1),
    ],
)
def test_values_that_no_backbone_has_are_refused_by_name(field, value):
    with pytest.raises(FeatureFileError, match=f"{field}") as refused:
        Provenance.checked(dataclasses.asdict(ONE) | {field: value})
    assert len(str(refused.value)) < 300


def test_the_version_of_the_file_format_is_no_part_of_what_made_vectors():
    assert "format_version" not in dataclasses.asdict(ONE)
