"""Labels that are given on a page: kept, put in order, and brought where training finds them."""

import csv
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from headstart.classify.studies.learner import Learner
from headstart.extract import extract, scan
from headstart.extract.pipeline import run
from headstart.features import FeatureStore, HeadstartError, WrongUsage
from headstart.pages.labelling import label, queues
from headstart.pages.labelling.findings import BELIEFS, DOUBTS, PLACES, STRANGENESS
from headstart.pages.labelling.journal import Journal
from headstart.pages.labelling.labels import Labels, checked_class, checked_classes
from headstart.pages.labelling.session import Session
from headstart.pages.labelling.table import bring, extract_command, require_table, write_labels

needs_locks = pytest.mark.skipif(os.name == "nt", reason="there are no locks on Windows")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.jsonl"


@pytest.fixture
def store(make_store):
    """60 images of three classes, of which nobody has a label."""
    generator = np.random.default_rng(0)
    centres = 4 * generator.normal(size=(3, 40))
    vectors = centres[np.arange(60) % 3] + generator.normal(size=(60, 40))
    return make_store(vectors, [None] * 60)


TRUTH = np.arange(60) % 3


@pytest.fixture
def begin(path):
    """Begin a session with what the journal has; the one before is ended."""
    begun = []

    def start(store, classes=("a", "b", "c"), learning=True):
        for one in begun:
            one.stop()
        begun.append(Session(store, Journal(path), classes))
        if learning:
            begun[-1].found.start()
        return begun[-1]

    yield start
    for one in begun:
        one.stop()


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# The journal.


def test_what_was_appended_is_read_again(path):
    journal = Journal(path)
    events = [{"classes": ["cat"]}, {"labels": {"cat": ["0" * 64]}}, {"undo": True}]
    for event in events:
        journal.append(event)
    assert lines(path)[1]["classes"] == ["cat"]
    journal.close()
    journal = Journal(path)
    assert [{k: v for k, v in one.items() if k != "at"} for one in journal.events] == events
    journal.close()


@pytest.mark.parametrize("torn", [b'{"labels":{"ca', b"\0\0\0\0", b"{", b'{"undo":true}'])
def test_a_torn_last_line_is_let_go_and_the_next_one_takes_its_place(path, torn):
    journal = Journal(path)
    journal.append({"classes": ["cat"]})
    journal.close()
    with path.open("ab") as file:
        file.write(torn)
    journal = Journal(path)
    journal.append({"classes": ["dog"]})
    journal.close()
    assert [event["classes"] for event in lines(path)[1:]] == [["cat"], ["dog"]]


@pytest.mark.parametrize("begun", range(5))
def test_a_journal_that_was_killed_at_its_first_bytes_is_begun_anew(path, begun):
    path.write_bytes(b'{"journal":"headstart-labels"'[: 7 * begun])
    Journal(path).close()
    assert lines(path) == [{"journal": "headstart-labels", "version": 1}]


@pytest.mark.parametrize("content", ["path,label\n", '{"a": 1}\n', "[]\n", "notes", "\xff\n"])
def test_another_file_is_never_taken_for_a_journal(path, content):
    path.write_text(content, encoding="latin-1")
    with pytest.raises(HeadstartError, match="is not a journal of labels"):
        Journal(path)
    assert path.read_text(encoding="latin-1") == content


@pytest.mark.parametrize(
    "line",
    [
        *("{", "[1]", "{}", '{"undo": 1}', '{"classes": "a"}'),
        *('{"labels": ["cat"]}', '{"labels": {"cat": ["abc"]}}'),
    ],
)
def test_damage_before_the_end_is_said_by_its_line(path, line):
    Journal(path).close()
    with path.open("a") as file:
        file.write(f'{{"undo":true}}\n{line}\n{{"undo":true}}\n')
    with pytest.raises(HeadstartError, match=r"labels\.jsonl, line 3: damaged"):
        Journal(path)


def test_a_journal_of_a_later_version_is_refused(path):
    path.write_text('{"journal": "headstart-labels", "version": 2}\n')
    with pytest.raises(HeadstartError, match="version 2; this headstart reads version 1"):
        Journal(path)


@needs_locks
def test_only_one_has_a_journal_open(path):
    journal = Journal(path)
    with pytest.raises(HeadstartError, match="another labelling page has it open") as told:
        Journal(path)
    assert "\n" not in str(told.value)
    journal.close()
    Journal(path).close()


def test_a_write_that_fails_leaves_no_part_of_it(path, monkeypatch):
    journal = Journal(path)
    journal.append({"classes": ["cat"]})
    before, real = path.read_bytes(), os.write

    def half(descriptor, data):
        if len(data) > 20:
            return real(descriptor, bytes(data)[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(HeadstartError, match="make space on the disk"):
        journal.append({"classes": ["dog"]})
    assert path.read_bytes() == before
    monkeypatch.undo()
    journal.append({"classes": ["dog"]})
    assert [event["classes"] for event in lines(path)[1:]] == [["cat"], ["dog"]]
    journal.close()


def test_a_label_is_on_the_disk_before_anybody_is_told(path, begin, store, monkeypatch):
    session = begin(store, learning=False)
    calls = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(path.read_bytes()))
    session.label({0: [5]})
    assert session.labels.digests[5].encode() in calls[-1]


# The session.


def test_whatever_was_done_is_there_again_after_a_restart(begin, store):
    generator = np.random.default_rng(1)
    session = begin(store, learning=False)
    for step in range(60):
        if step % 7 == 6 and session.labels.undoable:
            session.undo()
        elif step % 11 == 5:
            session.add_class(f"class {step}")
        else:
            images = generator.choice(60, generator.integers(1, 5), replace=False).tolist()
            code = int(generator.integers(-1, len(session.labels.names)))
            session.label({code: images}, "uncertain")
    before = session.labels
    again = begin(store, classes=(), learning=False).labels
    assert again.names == before.names
    for name in ("codes", "checked", "kept", "order"):
        assert (getattr(again, name) == getattr(before, name)).all()
    assert (again.drawn, again.asked, again.undoable) == (
        before.drawn,
        before.asked,
        before.undoable,
    )


def test_undo_takes_back_all_that_one_line_gave_and_nothing_else(begin, store):
    session = begin(store, learning=False)
    session.label({0: [1, 2], 1: [3]})
    codes = session.labels.codes.copy()
    session.label({2: [2, 3, 4], -1: [1]})
    answer = session.undo()
    assert (session.labels.codes == codes).all()
    assert sorted(one["image"] for one in answer["images"]) == [1, 2, 3, 4]
    session.undo()
    assert (session.labels.codes == -1).all()
    with pytest.raises(WrongUsage, match="nothing to undo"):
        session.undo()


def test_several_labels_are_one_line_of_the_journal(begin, store, path):
    session = begin(store, learning=False)
    before = len(lines(path))
    session.label({0: list(range(20)), 1: list(range(20, 40))})
    assert len(lines(path)) == before + 1


def test_files_of_the_same_bytes_get_one_label(begin, make_store):
    store = make_store(np.eye(6), [None] * 6, contents=[0, 1, 0, 2, 3, 4])
    session = begin(store, learning=False)
    session.label({1: [2]})
    assert session.labels.codes.tolist() == [1, -1, 1, -1, -1, -1]


@pytest.mark.parametrize("labels", [["a", None, "b"], ["b", None, "a"], [None, None, "b"]])
def test_undo_gives_each_file_of_the_same_bytes_the_label_that_it_had(begin, make_store, labels):
    store = make_store(np.eye(3), labels, contents=[0, 1, 0])
    session = begin(store, learning=False)
    before = session.given()
    session.label({session.labels.code_of("a"): [0]})
    assert session.given() == ["a", "", "a"]
    assert begin(store, learning=False).given() == ["a", "", "a"]
    again = begin(store, learning=False)
    again.undo()
    assert again.given() == before
    assert again.labels.changed == 0


def test_a_journal_serves_another_feature_file_of_the_same_images(begin, make_store):
    session = begin(make_store(np.eye(5), [None] * 5), learning=False)
    session.label({2: [3]})
    other = make_store(np.ones((4, 9)), [None] * 4, contents=[7, 3, 8, 4], name="other.h5")
    assert begin(other, learning=False).labels.codes.tolist() == [-1, 2, -1, -1]


def test_labels_of_the_file_count_until_others_are_given(begin, make_store):
    store = make_store(np.eye(4), ["x", "y", None, "x"])
    session = begin(store, classes=("y",), learning=False)
    assert session.labels.names == ["y", "x"]
    assert session.labels.codes.tolist() == [1, 0, -1, 1]
    session.label({0: [0], 1: [1, 2]})
    assert session.labels.changed == 3
    session.label({-1: [3]})
    again = begin(store, classes=(), learning=False).labels
    assert again.names == ["y", "x"]  # so that the keys are the same
    assert again.codes.tolist() == [0, 1, 1, -1]


@pytest.mark.parametrize(("code", "image"), [(3, 0), (-2, 0), (0, 60), (0, -1)])
def test_what_there_is_not_gets_no_label(begin, store, path, code, image):
    session = begin(store, learning=False)
    before = path.read_bytes()
    with pytest.raises(WrongUsage):
        session.label({code: [1, image]})
    assert path.read_bytes() == before
    assert (session.labels.codes == -1).all()


def test_a_label_that_cannot_be_kept_is_not_given(begin, store, monkeypatch):
    session = begin(store, learning=False)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output")))
    with pytest.raises(HeadstartError, match="cannot be written"):
        session.label({0: [5]})
    assert (session.labels.codes == -1).all()


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "a\nb", "\u202ecat", "\ud800", "x" * 201, 7])
def test_what_is_no_name_is_no_class(name):
    with pytest.raises(WrongUsage, match="class"):
        checked_class(name)


def test_classes_are_named_once_and_as_they_are_written():
    assert checked_classes(" cat,dog,, cat ,cafe\u0301") == ["cat", "dog", "caf\u00e9"]
    assert checked_classes(["a,b"]) == ["a,b"]
    assert checked_classes(None) == []
    odd = '</script><img src=x onerror="alert(1)">'
    assert checked_class(odd) == odd


# The queues.


def test_the_uncertain_queue_has_every_unlabelled_image_once_and_its_tenth_is_drawn(begin, store):
    session = begin(store)
    session.label({0: [0, 3], 1: [1, 4], 2: [2]})
    order = [one["image"] for one in session.queue("uncertain", 100, wait=20)["images"]]
    assert sorted(order) == sorted(set(range(60)) - {0, 1, 2, 3, 4})
    kept = session.labels.kept[order]
    places = np.flatnonzero(kept)
    assert places[0] == 9 - session.labels.asked[0]
    assert (np.diff(places[: len(places) // 2]) == 10).all()


def test_of_a_head_the_least_certain_come_first(begin, store):
    session = begin(store)
    session.label({0: [0, 3], 1: [1, 4], 2: [2]})
    session.queue("uncertain", 0, wait=20)
    with session._changed:
        margin = session.found.latest(BELIEFS).margin
    order = np.array([one["image"] for one in session.queue("uncertain", 100)["images"]])
    others = order[~session.labels.kept[order]]
    assert (np.diff(margin[others]) >= 0).all()


def test_drawn_images_that_are_due_are_not_forgotten_by_skipping_them(begin, store):
    session = begin(store, learning=False)
    order = queues.uncertain(session.labels, None)
    others = [image for image in order.tolist() if not session.labels.kept[image]]
    for image in others[:25]:
        session.label({0: [image]}, "uncertain")
    kept = session.labels.kept[queues.uncertain(session.labels, None)]
    assert kept[:2].all()
    assert not kept[2:4].any()


def test_only_predictions_made_before_a_drawn_image_had_a_label_count(begin, store):
    session = begin(store)
    kept = np.flatnonzero(session.labels.kept).tolist()
    others = [image for image in range(60) if image not in kept]
    one, two, three, four, *_ = kept
    session.label({int(TRUTH[one]): [one]}, "uncertain")  # there is no head yet
    for code in range(3):
        session.label({code: [i for i in others if TRUTH[i] == code][:3]}, "uncertain")
    assert session.queue("uncertain", 1, wait=20)["state"]["head"]
    assert session.labels.estimate() is None
    session.label({int(TRUTH[two]): [two]}, "uncertain")
    session.label({int(TRUTH[three] + 1) % 3: [three]}, "random")
    estimate = session.labels.estimate()
    assert (estimate.right, estimate.labels) == (1, 2)
    # Whatever else one labels was chosen, be it one of those that are kept for drawing.
    session.label({0: [four]}, "all")
    session.label({0: [others[20]]}, "uncertain")
    session.label({0: kept[4:6]}, "uncertain", filtered=True)
    assert session.labels.estimate().labels == 2
    # A label that is put right counts as it is now; one that is taken away does not.
    session.label({int(TRUTH[three]): [three]}, "all")
    assert session.labels.estimate().right == 2
    session.label({-1: [three]}, "all")
    assert session.labels.estimate().labels == 1
    assert "of 1 images drawn at random" in session.state()["estimate"]


def test_a_tenth_is_kept_for_drawing_whatever_the_digests_look_like(make_store):
    store = make_store(np.zeros((3000, 2)) + np.arange(3000)[:, None], [None] * 3000)
    labels = Labels(store, np.arange(3000))
    assert 240 <= labels.kept.sum() <= 360
    assert sorted(labels.order.tolist()) == list(range(3000))
    assert abs(np.corrcoef(labels.order, np.arange(3000))[0, 1]) < 0.1


def test_a_suspect_that_was_checked_is_none_any_more(begin, make_store, store):
    wrong = TRUTH.copy()
    wrong[[10, 20]] = (wrong[[10, 20]] + 1) % 3
    session = begin(make_store(store.features, ["abc"[k] for k in wrong], name="wrong.h5"))
    found = session.queue("suspects", 10, wait=20)
    assert sorted(one["image"] for one in found["images"]) == [10, 20]
    assert all(one["predicted"] == TRUTH[one["image"]] for one in found["images"])
    session.label({int(wrong[10]): [10]}, "suspects")  # it is right as it was
    session.label({int(TRUTH[20]): [20]}, "suspects")
    assert not session.queue("suspects", 10, wait=20)["images"]
    session.undo()
    assert [one["image"] for one in session.queue("suspects", 10, wait=20)["images"]] == [20]


def test_near_copies_come_group_by_group_those_with_two_labels_first(make_store):
    store = make_store(np.zeros((9, 2)), ["x", None, "y", "x", None, "x", "y", None, None])
    labels = Labels(store, np.arange(9))
    groups = np.array([0, 0, 1, 2, 3, 2, 1, 3, 4])
    assert queues.near_copies(labels, groups).tolist() == [0, 1, 4, 7, 2, 6, 3, 5]
    labels.codes[6] = labels.codes[0]
    assert queues.near_copies(labels, groups).tolist() == [2, 6, 0, 1, 4, 7, 3, 5]


def test_the_near_copies_of_a_file_are_those_that_training_would_group(begin, make_store):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(80, 64)).astype("f4")
    vectors[7] = vectors[50] + 0.01 * generator.normal(size=64)
    found = begin(make_store(vectors, [None] * 80)).queue("near-copies", 10, wait=30)
    assert [one["image"] for one in found["images"]] == [7, 50]
    assert not found["pending"]


def test_a_lasso_and_a_search_filter_every_queue(begin, store):
    session = begin(store)
    session.label({0: [0, 3], 1: [1], 2: [2]})
    with session._changed:
        session.found.ask(PLACES)
        assert session.found.wait_for([PLACES], 60)
        places = session.found.latest(PLACES)
    left = [(-0.1, -0.1), (0.5, -0.1), (0.5, 1.1), (-0.1, 1.1)]
    found = session.queue("all", 100, lasso=left, wait=20)
    assert [one["image"] for one in found["images"]] == np.flatnonzero(places[:, 0] < 0.5).tolist()
    found = session.queue("all", 100, search="0001")
    assert [one["image"] for one in found["images"]] == [1, *range(10, 20)]
    assert [one["image"] for one in session.queue("all", 9, search="A")["images"]] == [0, 3]
    assert session.queue("uncertain", 9, search="no such")["total"] == 0


def test_a_lasso_leaves_images_that_are_kept_for_the_estimate_to_chance(begin, store):
    session = begin(store)
    session.label({0: [0, 3], 1: [1], 2: [2]})
    everywhere = [(-0.1, -0.1), (1.1, -0.1), (1.1, 1.1), (-0.1, 1.1)]
    session.map(wait=60)
    kept = {i for i in np.flatnonzero(session.labels.kept).tolist() if i > 3}
    assert kept
    for name in ("uncertain", "random"):
        found = session.queue(name, 100, lasso=everywhere, wait=20)["images"]
        assert {one["image"] for one in found} == set(range(4, 60)) - kept
    assert session.queue("all", 100, lasso=everywhere)["total"] == 60


def test_of_images_that_are_shown_it_is_told_what_they_are_now(begin, store):
    session = begin(store)
    session.label({0: [0, 3], 1: [1, 4], 2: [2]})
    found = session.queue("uncertain", 1, shown=[59, 0], wait=20)
    assert [one["image"] for one in found["shown"]] == [59, 0]
    assert [one["predicted"] for one in found["shown"]] == [2, 0]
    with pytest.raises(WrongUsage, match="image 60"):
        session.queue("uncertain", 1, shown=[60])


def test_a_point_is_inside_a_polygon_by_the_crossings_of_a_ray():
    square = [(0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8)]
    places = np.array([[0.5, 0.5], [0.1, 0.5], [0.9, 0.5], [0.5, 0.9]], "f4")
    assert queues.inside(places, square).tolist() == [True, False, False, False]
    notch = [(0, 0), (1, 0), (1, 1), (0.5, 0.1), (0, 1)]
    assert queues.inside(np.array([[0.5, 0.5], [0.1, 0.5]], "f4"), notch).tolist() == [False, True]


def test_labels_are_given_while_something_is_being_found(begin, store, monkeypatch):
    going, gone = threading.Event(), threading.Event()

    def learn(*_):
        going.set()
        gone.wait(20)

    monkeypatch.setattr(Learner, "learn", learn)
    session = begin(store)
    assert going.wait(20)
    answer = session.label({1: [5]})
    assert answer["images"][0]["label"] == 1
    assert session.queue("uncertain", 5)["pending"]
    gone.set()


def test_a_fault_in_learning_is_said_and_labels_are_kept_on(begin, make_store, path):
    vectors = np.ones((5, 4))
    vectors[3] = 1e20
    session = begin(make_store(vectors, [None] * 5))
    found = session.queue("uncertain", 5, wait=20)
    assert not found["pending"]
    assert found["state"]["fault"].startswith("nothing is learned (labels are kept all the same)")
    assert "the vector of 000003.png" in found["state"]["fault"]
    session.label({0: [2]})
    assert "labels" in lines(path)[-1]


def test_near_copies_are_found_after_labels_were_brought_into_the_file(
    begin, pets, photos, make_stub
):
    session = begin(pets)
    session.label({0: [3]})
    bring(pets.path, str(photos), {pets.raw_paths[3]: "a"})
    session.reopened()
    assert session.labels.changed == 0
    found = session.queue("near-copies", 9, wait=20)
    assert (found["pending"], found["state"]["fault"]) == (False, "")
    (photos / pets.paths[0]).unlink()
    with pytest.raises(HeadstartError, match="would be lost"):
        bring(pets.path, str(photos), {})
    session.reopened()
    run(make_stub(), photos, pets.path)
    with pytest.raises(HeadstartError, match="has other images now"):
        session.reopened()


def test_an_undo_holds_though_the_label_is_in_the_file_and_the_server_was_begun_again(
    begin, pets, photos
):
    session = begin(pets)
    before = session.labels.codes.copy()
    session.label({0: [3]})
    bring(pets.path, str(photos), {pets.raw_paths[3]: session.labels.names[0]})
    session.undo()
    again = begin(FeatureStore(pets.path))
    assert again.labels.codes[3] == before[3]
    assert not again.labels.checked[3] or before[3] >= 0


def test_only_what_is_asked_for_is_found_anew(begin, store):
    session = begin(store)
    session.label({0: [0, 3, 6], 1: [1, 4, 7]})
    session.queue("uncertain", 1, wait=20)
    with session._changed:
        assert session.found.latest(DOUBTS) is None
        assert session.found.latest(STRANGENESS) is None
    assert session.queue("unfamiliar", 60, wait=20)["total"] == 54


# The manifest, and the way into the feature file.


@pytest.fixture
def pets(photos, stub, tmp_path):
    """A feature file of 18 images without labels."""
    return run(stub, photos, tmp_path / "pets.h5", labels="none")


def rows(store):
    return np.arange(len(store))


def test_extract_brings_the_list_into_the_file_without_embedding(pets, stub, photos, tmp_path):
    out, features = tmp_path / "labels.csv", pets.features
    given = ["b" if "blue" in path else "" for path in pets.paths]
    assert write_labels(out, pets, rows(pets), str(photos), given) == []
    with out.open(newline="") as file:
        assert next(csv.reader(file)) == ["path", "label", "split"]
    again = extract(out, tmp_path / "pets.h5", weights="random", size=71)
    assert again.summary.embedded == 0
    assert np.array_equal(again.features, features)
    labels = [again.label_names[k] if k >= 0 else "" for k in again.labels]
    assert labels == given
    assert again.paths == [f"photos/{path}" for path in pets.paths]


def test_the_list_keeps_splits_and_groups_and_odd_names(stub, tmp_path, write_image):
    folder = tmp_path / "photos"
    names = ['a"b, c.png', "=1+1.png", " spaced .png", "ü.png", "\u202egnp.png"]
    for number, name in enumerate(names):
        write_image(folder / name, number)
    with (folder / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerow(["path", "label", "split", "group"])
        csv.writer(file).writerows([name, "", "train", f"g{name}"] for name in names)
    store = run(stub, folder / "list.csv", tmp_path / "odd.h5")
    out = tmp_path / "labels.csv"
    given = [f"label of {path}" for path in store.paths]
    write_labels(out, store, rows(store), str(folder / "list.csv"), given)
    found = {os.path.basename(image.path.decode()): image for image in scan(out)}
    assert found.keys() == set(names)
    for name, image in found.items():
        assert (image.label, image.split, image.group) == (f"label of {name}", "train", f"g{name}")


def test_images_outside_the_folder_of_the_list_are_named_absolutely(pets, photos, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "elsewhere" / "labels.csv"
    write_labels(out, pets, rows(pets), str(photos), ["x"] * len(pets))
    assert {image.path for image in scan(out)} == {
        os.fsencode(photos / path) for path in pets.paths
    }


def test_images_that_are_gone_are_left_out_and_most_of_them_are_refused(pets, photos, tmp_path):
    out = tmp_path / "labels.csv"
    (photos / pets.paths[0]).unlink()
    notes = write_labels(out, pets, rows(pets), str(photos), ["x"] * len(pets))
    assert notes == [f"1 image no longer there, first {pets.paths[0]}, is left out"]
    assert len(scan(out)) == 17
    for path in pets.paths[1:10]:
        (photos / path).unlink()
    before = out.read_bytes()
    with pytest.raises(HeadstartError, match="--images"):
        write_labels(out, pets, rows(pets), str(photos), ["x"] * len(pets))
    assert out.read_bytes() == before


def test_what_lies_in_an_archive_is_brought_in_without_a_list(photos, stub, tmp_path):
    import shutil

    archive = shutil.make_archive(str(tmp_path / "pets"), "zip", photos)
    store = run(stub, archive, tmp_path / "pets.h5", labels="none")
    with pytest.raises(HeadstartError, match="a list cannot name images in") as told:
        write_labels(tmp_path / "labels.csv", store, rows(store), archive, ["x"] * len(store))
    assert "by the button of the page" in str(told.value)
    said = bring(store.path, archive, dict.fromkeys(store.raw_paths[:5], "x"))
    assert said == "5 labels of 18 images are in pets.h5 now; nothing was embedded"
    assert (FeatureStore(store.path).labels >= 0).sum() == 5


def test_labels_are_brought_in_for_the_images_of_the_file_alone(pets, photos, write_image):
    write_image(photos / "blue" / "new.png", 99)
    (photos / "blue" / "broken.png").write_bytes(b"no image")
    before = pets.features
    said = bring(pets.path, str(photos), {pets.raw_paths[3]: "x", pets.raw_paths[4]: ""})
    assert said == "1 label of 18 images are in pets.h5 now; nothing was embedded"
    after = FeatureStore(pets.path)
    assert np.array_equal(after.features, before)
    assert after.label_names == ["x"]
    assert np.flatnonzero(after.labels >= 0).tolist() == [3]


def test_a_label_stays_with_the_image_that_it_was_given_to(pets, photos, write_image, tmp_path):
    path = pets.paths[3]
    write_image(photos / path, 1234)
    (photos / pets.paths[5]).touch()
    out, given = tmp_path / "labels.csv", ["x"] * len(pets)
    note = f"1 image changed since, first {path}, is without a label: what was labelled is another"
    notes = write_labels(out, pets, rows(pets), str(photos), given)
    assert [one.startswith(note) for one in notes] == [True]
    without = [image.path for image in scan(out) if image.label is None]
    assert without == [os.fsencode(f"photos/{path}")]


def test_labels_go_with_images_whose_folder_has_another_name_now(pets, photos, stub, tmp_path):
    out = tmp_path / "labels.csv"
    write_labels(out, pets, rows(pets), str(photos), ["x"] * len(pets))
    store = run(stub, out, pets.path)  # whose paths begin with photos/
    moved = str(photos.rename(tmp_path / "moved"))
    write_labels(out, store, rows(store), moved, ["y"] * len(store))
    assert [image.path.startswith(b"moved/") and image.label == "y" for image in scan(out)] == [
        True
    ] * 18
    said = bring(store.path, moved, dict.fromkeys(store.raw_paths[:5], "z"))
    assert said == "5 labels of 18 images are in pets.h5 now; nothing was embedded"
    after = FeatureStore(store.path)
    assert np.array_equal(after.digests, store.digests)
    assert np.flatnonzero(after.labels >= 0).tolist() == list(range(5))


def test_bringing_labels_gives_none_to_an_image_that_was_replaced(photos, tmp_path, write_image):
    store = extract(photos, tmp_path / "pets.h5", weights="random", size=71, labels="none")
    write_image(photos / store.paths[3], 1234)
    said = bring(store.path, str(photos), dict.fromkeys(store.raw_paths, "x"))
    assert said.startswith("17 labels of 18 images are in pets.h5 now; 1 changed image embedded; ")
    assert f"first {store.paths[3]}, is without a label" in said
    after = FeatureStore(store.path)
    assert np.flatnonzero(after.labels < 0).tolist() == [3]
    assert not np.array_equal(after.digests[3], store.digests[3])


def test_the_command_that_is_told_is_the_one_that_does_it(pets, tmp_path, cli, photos):
    out = tmp_path / "odd name.csv"
    write_labels(out, pets, rows(pets), str(photos), ["x", "y"] * 9)
    import shlex

    command = shlex.split(extract_command(pets, out))
    assert command[:2] == ["headstart", "extract"]
    done = cli(*command[1:], "--json")
    assert (done.code, json.loads(done.out)["embedded"]) == (0, 0)
    assert FeatureStore(pets.path).label_names == ["x", "y"]


def test_a_list_that_is_not_ours_is_not_replaced(pets, photos, tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text("path\n")
    with pytest.raises(HeadstartError, match="is there already, and no page of labels wrote it"):
        require_table(mine, pets, str(photos))
    with pytest.raises(HeadstartError, match="is the list of the images itself"):
        require_table(mine, pets, str(mine))
    with pytest.raises(HeadstartError, match=r"NAME\.csv"):
        require_table(tmp_path / "labels.txt", pets, str(photos))
    assert require_table(tmp_path / "new.csv", pets, str(photos)) == tmp_path / "new.jsonl"


# What is said when it cannot begin.


def test_images_that_moved_away_are_asked_for(pets, photos, tmp_path, cli):
    photos.rename(tmp_path / "moved")
    said = cli("label", pets.path, "--no-browser", "-o", tmp_path / "l.csv").failure()
    assert "none of its images is found in" in said
    assert "--images" in said
    assert not (tmp_path / "l.jsonl").exists()
    said = cli("label", pets.path, "--images", "nowhere", "-o", tmp_path / "l.csv").failure()
    assert said.startswith("headstart: --images nowhere: no such folder")


def test_a_port_that_is_taken_is_said(pets, tmp_path, cli):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = ("label", pets.path, "--no-browser", "--port", port, "-o", tmp_path / "l.csv")
        assert f"port {port}: is taken by another program" in cli(*command).failure()


@needs_locks
def test_a_second_server_on_a_journal_is_refused(pets, tmp_path, cli):
    journal = Journal(tmp_path / "l.jsonl")
    command = ("label", pets.path, "--no-browser", "-o", tmp_path / "l.csv")
    assert "another labelling page has it open" in cli(*command).failure()
    journal.close()


def test_without_starlette_it_is_said_how_to_get_it(pets, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(HeadstartError, match=r'pip install "headstart\[pages\]"'):
        label(pets, out=tmp_path / "l.csv", browser=False)


def interrupted(*words):
    """What a command says before and after Ctrl-C, line by line."""
    program = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & switches it off
from headstart.cli.main import main
main()
"""
    command = [sys.executable, "-P", "-c", program, *words]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    told = [server.stdout.readline() for _ in range(3)]
    server.send_signal(2)
    rest = server.stdout.read().splitlines()
    assert server.wait(30) == 0
    return told, rest


needs_sigint = pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT")


def test_the_end_waits_for_what_is_being_found(begin, store, monkeypatch):
    may, ended = threading.Event(), []

    def slowly(*_):
        may.wait(60)
        ended.append(True)
        raise HeadstartError("it is over")

    monkeypatch.setattr(Learner, "of", slowly)
    session = begin(store)
    session.stop()
    threading.Timer(0.2, may.set).start()
    session.found.wait_until_over()
    assert ended


@needs_sigint
def test_ctrl_c_writes_the_list_and_says_where_the_labels_are(pets, tmp_path):
    out = tmp_path / "labels.csv"
    journal = Journal(tmp_path / "labels.jsonl")
    digest = pets.digests[4].tobytes().hex()
    journal.append({"labels": {"cat": [digest]}})
    journal.close()
    told, rest = interrupted("label", pets.path, "--no-browser", "-o", out)
    assert "18 images, 1 with a label" in told[0]
    assert "http://127.0.0.1:" in told[1]
    journal = out.with_suffix(".jsonl")
    stopped = f"stopped; the labels are in {journal}, and the same command goes on"
    assert told[2] == "Ctrl-C ends it\n"
    assert rest == [f"1 label of 18 images written to {out}", stopped]
    assert [image.label for image in scan(out) if image.label] == ["cat"]


@needs_sigint
def test_what_was_undone_is_not_left_in_a_list_of_before(pets, tmp_path):
    out = tmp_path / "labels.csv"
    journal = Journal(tmp_path / "labels.jsonl")
    journal.append({"labels": {"odd": [pets.digests[4].tobytes().hex()]}})
    journal.close()
    interrupted("label", pets.path, "--no-browser", "-o", out)
    assert "odd" in out.read_text()
    journal = Journal(tmp_path / "labels.jsonl")
    journal.append({"undo": True})
    journal.close()
    interrupted("label", pets.path, "--no-browser", "-o", out)
    assert "odd" not in out.read_text()
