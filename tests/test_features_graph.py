"""A quantised backbone as bytes: one spelling, a digest, and nothing else taken for one."""

import contextlib
import hashlib
import io
import json
import zipfile

import numpy as np
import pytest
from headstart.features import FeatureFileError, FeatureStore, verify
from headstart.features.journal import graphs, units
from headstart.features.journal.known import Known
from headstart.features.journal.lock import exclusive
from headstart.features.journal.seal import seal
from headstart.features.origin import Origin
from headstart.features.provenance.graph import Graph
from headstart.features.records import FileStat, Listed, SeenFile
from hypothesis import given
from hypothesis import strategies as st

ABOUT = {"backbone": "VGG16", "size": 32, "weights": {"kind": "imagenet"}, "cosine": 0.5}
GRAPH = Graph(b"<net/>" * 9, bytes(range(256)) * 4, ABOUT)
PACKED = GRAPH.packed()


def test_the_digest_is_that_of_format_md():
    total = hashlib.sha256()
    with zipfile.ZipFile(io.BytesIO(PACKED)) as archive:
        assert archive.namelist() == ["about.json", "graph.xml", "graph.bin"]
        for name in archive.namelist()[1:]:
            data = archive.read(name)
            total.update(len(data).to_bytes(8, "little") + data)
    assert total.hexdigest() == GRAPH.digest


def test_a_graph_reads_back_and_has_one_spelling():
    again = Graph.unpacked(PACKED, GRAPH.digest)
    assert (again.xml, again.constants, again.about) == (GRAPH.xml, GRAPH.constants, ABOUT)
    assert again.packed() == PACKED
    other = Graph(GRAPH.xml, GRAPH.constants, {**ABOUT, "cosine": 0.25})
    assert other.digest == GRAPH.digest
    # What ends one part does not begin the next.
    shifted = Graph(GRAPH.xml + GRAPH.constants[:1], GRAPH.constants[1:], ABOUT)
    assert shifted.digest != GRAPH.digest


@given(st.integers(0, len(PACKED) - 1), st.integers(0, 255))
def test_no_byte_changes_a_graph_unseen(place, byte):
    data = PACKED[:place] + bytes([byte]) + PACKED[place + 1 :]
    with contextlib.suppress(FeatureFileError):
        again = Graph.unpacked(data, GRAPH.digest)
        assert (again.xml, again.constants) == (GRAPH.xml, GRAPH.constants)


def archive(members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, data in members:
            made.writestr(name, data)
    return file.getvalue()


WHOLE = [("about.json", json.dumps(ABOUT)), ("graph.xml", GRAPH.xml), ("graph.bin", b"1")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b"no archive", "not a zip"),
        (PACKED[:-9], "zip"),
        (archive(WHOLE[:2]), "another archive"),
        (archive([*WHOLE, ("more", b"")]), "another archive"),
        (archive(WHOLE, zipfile.ZIP_DEFLATED), "compressed"),
        (archive([("about.json", "[1]"), *WHOLE[1:]]), "is a list, not an object"),
        (archive([("about.json", '{"weights": 1}'), *WHOLE[1:]]), "not an object"),
        (archive([("about.json", "{" * 9), *WHOLE[1:]]), "Expecting"),
        (archive([("about.json", "[" * 60_000), *WHOLE[1:]]), "recursion"),
        (archive([("about.json", "1" * 70_000), *WHOLE[1:]]), "more than it holds"),
        (archive(WHOLE), "its SHA-256 is"),
    ],
)
def test_what_is_no_graph_of_this_digest_is_refused_in_one_line(data, message):
    with pytest.raises(FeatureFileError, match=message) as error:
        Graph.unpacked(data, GRAPH.digest)
    assert "\n" not in str(error.value)


@pytest.fixture
def begun(tmp_path, make_stub):
    """The units of vectors of a graph, and how to seal them."""
    stub = make_stub(GRAPH.digest)
    weights = {"kind": "quantised", "path": "/elsewhere/old.h5", "sha256": GRAPH.digest}
    made = type(stub.provenance).checked(
        json.loads(stub.provenance.to_json()) | {"precision": "int8"}
    )
    file = SeenFile(FileStat(b"a.png", 1, 2, 3), b"a" * 32, 5, 5)
    out = tmp_path / "pets.h5"
    origin = Origin(made, {"weights": weights}, stub.canary)
    units.publish(units.folder_of(out), origin, [file], {file.key: np.ones(8, np.float32)})

    def finish():
        with exclusive(out):
            return seal(Known(out), [Listed(file.stat, None, "none")])

    return out, finish


def test_sealing_takes_the_graph_over_and_leaves_nothing_behind(begun, tmp_path):
    out, finish = begun
    graphs.keep(out, GRAPH)
    store = finish()
    assert store.graph.packed() == PACKED
    assert verify(out) == []
    assert not units.folder_of(out).exists()
    assert graphs.find(out, GRAPH.digest).packed() == PACKED
    # Wherever it is taken, the graph is there.
    assert store.environment["weights"]["path"] == str(out)
    moved = out.rename(tmp_path / "moved.h5")
    assert FeatureStore(moved).environment["weights"]["path"] == str(moved)


def test_without_its_graph_nothing_is_sealed_and_the_work_is_kept(begun):
    out, finish = begun
    with pytest.raises(FeatureFileError, match="of this unfinished work is gone; put it back, or"):
        finish()
    assert not out.exists()
    assert len(list(units.folder_of(out).glob("*.h5"))) == 1


def test_a_graph_that_no_vector_needs_is_no_part_of_a_sound_file(make_store):
    import h5py

    store = make_store(np.ones((4, 8)), [None] * 4)
    with h5py.File(store.path, "r+") as file:
        file["graph"] = np.frombuffer(PACKED, np.uint8)
    for use in (verify, FeatureStore):
        with pytest.raises(FeatureFileError, match="holds a quantised backbone, though its prec"):
            use(store.path)


@pytest.mark.parametrize("digest", ["", "x" * 300, "../other", "/other", GRAPH.digest.upper()])
def test_what_is_no_digest_names_no_file(tmp_path, digest):
    (tmp_path / "pets.h5.units").mkdir()
    (tmp_path / "other.graph").write_bytes(PACKED)
    with pytest.raises(FeatureFileError, match="the digest of its quantised backbone is none"):
        graphs.find(tmp_path / "pets.h5", digest)
