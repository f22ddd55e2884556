"""The images of a feature file, found again: the right ones, or none."""

import io
import shutil
import zipfile

import numpy as np
import pytest
from headstart.extract.pipeline import run
from headstart.features import SourceError
from headstart.pages.pictures import Missing, Pictures
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    """Four images of two classes: upright, lying by its EXIF, wide, and a copy of the first."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)

    def smooth(width, height):
        levels = generator.integers(0, 255, (4, 4, 3), np.uint8)
        return Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC)

    tall = smooth(60, 120)
    tall.save(folder / "a" / "1.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    tall.transpose(Image.Transpose.ROTATE_90).save(folder / "a" / "2.jpg", exif=exif)
    smooth(300, 100).save(folder / "b" / "3.png")
    tall.save(folder / "b" / "4.jpg", quality=40)
    return folder


@pytest.fixture
def store(folder, stub, tmp_path):
    return run(stub, folder, tmp_path / "pets.h5")


def opened(data):
    image = Image.open(io.BytesIO(data))
    assert image.format == "WEBP"
    return image


def test_a_thumbnail_has_the_shape_of_the_upright_image_and_its_colours(folder, store):
    pictures = Pictures(store)
    sizes = [opened(pictures.thumbnail(row)).size for row in range(4)]
    assert sizes == [(64, 128), (64, 128), (128, 43), (64, 128)]
    upright, turned = (
        np.asarray(opened(pictures.thumbnail(row)).convert("RGB"), float) for row in (0, 1)
    )
    assert np.abs(upright - turned).mean() < 5
    whole = Image.open(folder / "a" / "1.jpg").resize((64, 128), Image.Resampling.LANCZOS)
    assert np.abs(upright - np.asarray(whole, float)).mean() < 5


def test_the_difference_of_an_image_and_its_copy_is_dark_and_of_two_images_is_not(store):
    pictures = Pictures(store)
    itself, copy, other = (
        np.asarray(opened(pictures.difference(0, row)), float) for row in (0, 3, 2)
    )
    assert itself.mean() < 1
    assert copy.mean() < 25 < 40 < other.mean()


def test_an_image_that_changed_or_went_is_missing_and_never_another_one(folder, store):
    shutil.copy(folder / "b" / "3.png", folder / "a" / "1.jpg")
    (folder / "a" / "2.jpg").unlink()
    pictures = Pictures(store)
    for row, reason in ((0, "has changed since"), (1, "no longer there")):
        with pytest.raises(Missing, match=reason):
            pictures.thumbnail(row)
    with pytest.raises(Missing, match="has changed since"):
        pictures.difference(2, 0)
    assert opened(pictures.thumbnail(2)).size == (128, 43)


def test_images_that_moved_are_shown_where_the_user_says_they_are(folder, store, tmp_path):
    folder.rename(tmp_path / "moved")
    with pytest.raises(Missing, match="no longer there"):
        Pictures(store).thumbnail(0)
    there = Pictures(store, tmp_path / "moved")
    assert opened(there.thumbnail(0)).size == (64, 128)
    with pytest.raises(SourceError, match=r"--images .*nowhere: no such folder or file"):
        Pictures(store, tmp_path / "nowhere")


def test_images_of_a_list_are_found_in_their_folder_whatever_it_is_called_now(
    folder, stub, tmp_path
):
    table = tmp_path / "list.csv"
    table.write_text(
        f"path,label\nphotos/a/1.jpg,x\n{folder / 'b' / '3.png'},y\nphotos/b/4.jpg,y\n"
    )
    made = run(stub, table, tmp_path / "pets.h5")
    moved = folder.rename(tmp_path / "moved")
    shutil.copy(moved / "a" / "1.jpg", moved / "b" / "4.jpg")
    there = Pictures(made, moved)
    sizes = {}
    for row, path in enumerate(made.paths):
        if path == "photos/b/4.jpg":
            with pytest.raises(Missing, match="no longer there"):
                there.thumbnail(row)
        else:
            sizes[path.split("/")[-1]] = opened(there.thumbnail(row)).size
    assert sizes == {"1.jpg": (64, 128), "3.png": (128, 43)}


def test_images_in_an_archive_or_on_a_list_are_found_again(folder, stub, tmp_path, make_stub):
    archive, table = tmp_path / "photos.zip", tmp_path / "list.csv"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*.*")):
            file.write(path, path.relative_to(folder))
    table.write_text("path,label\nphotos/a/1.jpg,x\nphotos/b/3.png,y\n")
    for source in (archive, table):
        made = run(make_stub(), source, tmp_path / f"{source.name}.h5")
        sizes = {opened(Pictures(made).thumbnail(row)).size for row in range(len(made))}
        assert sizes == {(64, 128), (128, 43)}
        source.unlink()
        if source is archive:
            with pytest.raises(Missing, match="no longer there"):
                Pictures(made).thumbnail(0)
