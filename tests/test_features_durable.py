import pytest
from headstart.features import durable


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "kept"
    path.write_text("old")
    with pytest.raises(RuntimeError), durable.replacing(path) as temporary:
        temporary.write_text("new, but never finished")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_write_takes_the_place_of_the_old_file(tmp_path):
    path = tmp_path / "kept"
    path.write_text("old")
    with durable.replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_first_publisher_of_a_name_wins(tmp_path):
    path = tmp_path / "unit"
    assert durable.publish(path, b"first")
    assert not durable.publish(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
