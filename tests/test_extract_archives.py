"""Archives read in place: against zipfile, tarfile and the unpacked folder."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from headstart.extract import pipeline, scan
from headstart.extract.sources import archives
from headstart.extract.sources.archives import unpacked
from headstart.extract.sources.image import Unreadable
from headstart.extract.sources.place import LocalPlace
from headstart.features import SourceError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def listed(*files, name=None):
    found = [os.fspath(file) for file in files]
    places = [LocalPlace(os.fsencode(one)) for one in found]
    return archives.listed(name or found[0], places)


def rows(listing):
    return [(image.path.decode(), image.label, image.split) for image in listing]


def contents(listing):
    return {image.path.decode(): image.read()[0] for image in listing}


def refusal(file):
    """The one line in which an archive is refused."""
    with pytest.raises(SourceError) as error:
        listed(file)
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)
    return str(error.value)


def reason(image):
    with pytest.raises(Unreadable) as error:
        image.read()
    return str(error.value)


def zipped(file, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


def tarred(file, members, form=tarfile.PAX_FORMAT):
    """A tar file; a member may be a TarInfo without data, too."""
    mode = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}
    kind = mode.get(str(file).rpartition(".")[2], "w")
    with tarfile.open(file, kind, format=form) as archive:
        for name, data in members.items():
            if isinstance(data, tarfile.TarInfo):
                data.name = name
                archive.addfile(data)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def made(file, members):
    return (zipped if str(file).endswith(".zip") else tarred)(file, members)


def pack(folder, file):
    """Pack a folder as people do."""
    if str(file).endswith(".zip"):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder))
    else:
        kind = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}
        with tarfile.open(file, kind.get(file.name.rpartition(".")[2], "w")) as archive:
            archive.add(folder, ".")
    return file


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_gives_the_rows_of_the_folder_that_it_unpacks_to(
    tmp_path, suffix, fill_photos, write_image
):
    folder = fill_photos(tmp_path / "photos" / "train").parent
    fill_photos(folder / "test", count=2)
    write_image(folder / "test" / "Hündchen" / "\N{DOG FACE}.png", 1)
    (folder / "train" / "green").mkdir()
    (folder / "train" / "notes.txt").write_text("x")
    (folder / "train" / "red" / "._red00.png").write_bytes(b"x")
    file = pack(folder, tmp_path / f"p{suffix}")
    packed, plain = listed(file), scan(folder)
    assert packed.name == str(file)
    for one, other in zip(packed, plain, strict=True):
        assert (one.path, one.label, one.split) == (other.path, other.label, other.split)
        assert one.digest() == other.digest()
    assert packed.passed_over == plain.passed_over
    assert packed.label_notes == plain.label_notes


@pytest.mark.parametrize(
    ("suffix", "workers"), [(".zip", 1), (".tar", 1), (".tar.gz", 1), (".tar.gz", 2)]
)
def test_a_run_over_an_archive_gives_the_features_of_the_folder(
    tmp_path, photos, stub, suffix, workers, send_whole
):
    send_whole()
    file = pack(photos, tmp_path / f"p{suffix}")
    plain = pipeline.run(stub, photos, tmp_path / "plain.h5")
    packed = pipeline.run(
        stub, listed(file), tmp_path / "packed.h5", unit_images=5, workers=workers
    )
    assert list(packed.paths) == list(plain.paths)
    assert list(packed.labels) == list(plain.labels)
    assert (packed.features == plain.features).all()
    assert packed.digests.tobytes() == plain.digests.tobytes()


def test_a_second_run_embeds_nothing_and_one_after_a_change_only_what_is_new(
    tmp_path, photos, stub, write_image
):
    file = pack(photos, tmp_path / "p.tar.gz")
    out = tmp_path / "p.h5"
    pipeline.run(stub, listed(file), out)
    done = stub.engine.images
    pipeline.run(stub, listed(file), out)
    assert stub.engine.images == done
    write_image(photos / "red" / "new.png", 77)
    pack(photos, file)
    assert len(pipeline.run(stub, listed(file), out)) == 19
    assert stub.engine.images == done + 1


def test_suffixes_and_braces_name_archives_and_folders_are_none(tmp_path):
    for name in ("a.zip", "a.TAR", "b.tar.gz", "b.tgz", "c.tar.bz2", "c.txz", "s-{000..123}.tar"):
        assert archives.is_archive(name)
    assert archives.is_archive("https://host/a.tar?token=1.2")
    for name in ("a.csv", "tar", "photos.gz", "a.tar.txt"):
        assert not archives.is_archive(name)
    (tmp_path / "photos.zip").mkdir()
    assert not archives.is_archive(str(tmp_path / "photos.zip"))


def test_braces_stand_for_ranges_with_their_zeros_and_for_lists():
    names = archives.names("s-{008..010}.tar")
    assert names == ["s-008.tar", "s-009.tar", "s-010.tar"]
    assert archives.names("{9..11}.zip") == ["9.zip", "10.zip", "11.zip"]
    assert archives.names("{2..0}.zip") == ["2.zip", "1.zip", "0.zip"]
    assert archives.names("{a,b}-{0..1}.tar") == ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]
    assert archives.names("{what}.tar") == ["{what}.tar"]
    assert len(archives.names("s3://b/s-{000000..000123}.tar")) == 124
    with pytest.raises(SourceError, match="more than 100,000 names"):
        archives.names("{0..99999999999999}.tar")
    with pytest.raises(SourceError, match="more than 100,000 names"):
        archives.names("{0..9999}{0..9999}.tar")


def test_braces_in_the_name_of_a_file_that_is_there_are_its_name(tmp_path):
    file = tarred(tmp_path / "{1,2}.tar", {"a.jpg": b"x"})
    assert archives.names(str(file)) == [str(file)]


def test_images_of_several_archives_have_their_names_before_theirs_and_splits_by_them(tmp_path):
    for name in ("train-000.tar", "train-001.tar", "val-000.tar"):
        tarred(tmp_path / name, {"cat/1.jpg": b"c", "dog/1.jpg": b"d"})
    pattern = str(tmp_path / "{train-000,train-001,val-000}.tar")
    listing = listed(*archives.names(pattern), name=pattern)
    assert listing.name == pattern
    assert rows(listing)[0] == ("train-000.tar/cat/1.jpg", "cat", "train")
    assert listing.splits == {"train": 4, "validation": 2}
    assert set(listing.classes) == {"cat", "dog"}


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["cat.zip", "dog.zip"], ["cat", "dog"]),
        (["cat-1.zip", "cat-2.zip", "dog-1.zip"], ["cat", "cat", "dog"]),
        (["photos-00000-of-00002.zip", "photos-00001-of-00002.zip"], [None, None]),
        (["000.zip", "001.zip"], [None, None]),
        (["a_part1.zip", "a_part2.zip"], [None, None]),
        (["photos (1).zip", "photos (2).zip"], [None, None]),
        (["photos.zip", "photos (1).zip", "photos(2).zip"], [None] * 3),
        (["x.zip", "x copy.zip", "x copy 2.zip", "x - Copy.zip", "x - Copy (3).zip"], [None] * 5),
        (["x.part-aa.zip", "x.part-ab.zip"], [None, None]),
        (["cat.zip", "cat (1).zip", "dog-001.zip", "dog-002 (1).zip"], ["cat"] * 2 + ["dog"] * 2),
        (["class1-01.zip", "class2-01.zip"], ["class1", "class2"]),
    ],
)
def test_the_names_of_archives_are_classes_unless_they_only_number_them(tmp_path, names, labels):
    files = [zipped(tmp_path / name, {"1.jpg": name.encode()}) for name in names]
    listing = listed(*files)
    found = {image.path.decode(): image.label for image in listing}
    assert found == {f"{name}/1.jpg": label for name, label in zip(names, labels, strict=True)}
    said = any("labels are the names of the archives" in note for note in listing.label_notes)
    assert said == (labels[0] is not None)


def test_a_name_with_many_numbers_is_looked_through_at_once(tmp_path):
    names = [f"{'1' * 200}-{'_' * 40}{letter}.zip" for letter in "xy"]
    listing = listed(*(zipped(tmp_path / name, {"1.jpg": b"x"}) for name in names))
    assert len(listing.classes) == 2


def test_archives_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        zipped(tmp_path / folder / "x.zip", {"1.jpg": folder.encode()})
    listing = listed(tmp_path / "a" / "x.zip", tmp_path / "b" / "x.zip")
    assert contents(listing) == {"a/x.zip/1.jpg": b"a", "b/x.zip/1.jpg": b"b"}
    with pytest.raises(SourceError, match="is given twice"):
        listed(tmp_path / "a" / "x.zip", tmp_path / "a" / "x.zip")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_labels_are_those_beside_the_images_of_a_shard(tmp_path, suffix):
    members = {
        "0001.cls": b"3\n",
        "0001.jpg": b"a",
        "0002.jpg": b"b",
        "0002.json": json.dumps({"id": 1, "Label": "Hu\u0308ndchen"}).encode(),
        "0003.left.jpg": b"c",
        "0003.right.jpg": b"d",
        "0003.json": b'{"class": 7, "target": "no"}',
        "0004.jpg": b"e",
    }
    listing = listed(made(tmp_path / f"s{suffix}", members))
    labels = {path: label for path, label, _ in rows(listing)}
    assert labels == {
        "0001.jpg": "3",
        "0002.jpg": "H\u00fcndchen",
        "0003.left.jpg": "7",
        "0003.right.jpg": "7",
        "0004.jpg": None,
    }
    assert ".cls" not in listing.passed_over
    assert any(".cls and .json" in note and "1 other" in note for note in listing.label_notes)
    assert any(
        "1 samples have several images, such as 0003.left.jpg and 0003.right.jpg" in note
        for note in listing.label_notes
    )


@pytest.mark.parametrize(
    ("members", "labels"),
    [
        (  # numbers and dates with dots are no parts of a sample
            {"IMG.001.jpg": b"", "IMG.001.json": "cat", "IMG.002.jpg": b"", "IMG.002.json": "dog"},
            {"IMG.001.jpg": "cat", "IMG.002.jpg": "dog"},
        ),
        (
            {"v1.0_a.jpg": b"", "v1.0_a.cls": "cat", "v1.0_b.jpg": b"", "v1.0_b.cls": "dog"},
            {"v1.0_a.jpg": "cat", "v1.0_b.jpg": "dog"},
        ),
        (
            {"2024.json": "foo", "2024.01.05 x.jpg": b"", "2024.02.jpg": b""},
            {"2024.01.05 x.jpg": None, "2024.02.jpg": None},
        ),
        (  # one of its own goes before that of the sample
            {"a.b.jpg": b"", "a.c.jpg": b"", "a.jpg": b"", "a.b.cls": "cat", "a.cls": "dog"},
            {"a.b.jpg": "cat", "a.c.jpg": None, "a.jpg": "dog"},
        ),
        (
            {"1.jpg": b"", "1.jpg.json": "cat", "2.jpg": b"", "2.meta.json": "dog"},
            {"1.jpg": "cat", "2.jpg": "dog"},
        ),
        (  # of two kinds .cls goes first, wherever it stands
            {"1.json": "dog", "1.cls": "cat", "1.jpg": b"", "1.mask.png": b""},
            {"1.jpg": "cat", "1.mask.png": "cat"},
        ),
    ],
)
def test_a_label_is_that_of_its_own_image_though_names_have_dots(tmp_path, members, labels):
    data = {
        name: json.dumps({"label": said}).encode() if name.endswith(".json") else said
        for name, said in members.items()
    }
    for suffix in (".zip", ".tar"):
        listing = listed(
            made(
                tmp_path / f"a{suffix}",
                {
                    name: said.encode() if isinstance(said, str) else said
                    for name, said in data.items()
                },
            )
        )
        assert {path: label for path, label, _ in rows(listing)} == labels
    unclear = any("a.b.cls" in note and "a.cls" in note for note in listing.label_notes)
    assert unclear == ("a.c.jpg" in labels)


@pytest.mark.parametrize(
    ("members", "labels", "said"),
    [
        (
            {"cat/1.jpg": b"", "cat/1.cls": b"x", "dog/2.jpg": b""},
            {"cat/1.jpg": "cat", "dog/2.jpg": "dog"},
            "those of 1 of 2, and are not used",
        ),
        (
            {"cat/1.jpg": b"", "cat/1.cls": b"x", "dog/2.jpg": b"", "dog/2.cls": b"y"},
            {"cat/1.jpg": "x", "dog/2.jpg": "y"},
            "labels are those in .cls and .json beside the images",
        ),
        (
            {"1.jpg": b"", "1.cls": b"x", "2.jpg": b""},
            {"1.jpg": "x", "2.jpg": None},
            "the 1 others have none",
        ),
    ],
)
def test_labels_beside_some_images_of_folders_with_labels_are_not_mixed_with_those(
    tmp_path, members, labels, said
):
    listing = listed(tarred(tmp_path / "a.tar", members))
    assert {path: label for path, label, _ in rows(listing)} == labels
    assert any(said in note for note in listing.label_notes)


def test_a_list_in_an_archive_without_labels_is_pointed_out(tmp_path):
    members = {"labels.csv": b"id,breed\n1,cat\n", "train/1.jpg": b"x", "test/2.jpg": b"y"}
    listing = listed(zipped(tmp_path / "a.zip", members))
    assert any("labels.csv may say the labels, and is not" in note for note in listing.label_notes)
    members |= {"train/cat/3.jpg": b"z", "train/dog/4.jpg": b"z"}
    listing = listed(zipped(tmp_path / "b.zip", members))
    assert not any("labels.csv" in note for note in listing.label_notes)


@pytest.mark.parametrize(("module", "suffix", "method"), [
    ("lzma", ".tar.xz", zipfile.ZIP_LZMA), ("bz2", ".tar.bz2", zipfile.ZIP_BZIP2)
])  # fmt: skip
def test_a_python_without_a_packer_reads_all_that_is_packed_otherwise(
    tmp_path, module, suffix, method
):
    tarred(tmp_path / f"a{suffix}", {"1.jpg": b"x"})
    zipped(tmp_path / "a.zip", {"1.jpg": b"x" * 99}, method)
    zipped(tmp_path / "b.zip", {"1.jpg": b"x" * 99}, zipfile.ZIP_DEFLATED)
    code = """
import sys
sys.modules["_" + sys.argv[1]] = None
import headstart.extract
for name in sys.argv[2:]:
    try:
        print(headstart.extract.scan(name)[0].read()[0][:1])
    except Exception as error:
        print(type(error).__name__, error)
"""
    names = [str(tmp_path / name) for name in (f"a{suffix}", "a.zip", "b.zip")]
    run = [sys.executable, "-c", code, module, *names]
    packed, member, fine = subprocess.check_output(run, text=True).splitlines()
    assert packed.startswith(f"SourceError {names[0]}: is packed by")
    assert member.startswith("Unreadable is packed by")
    assert f"without the module {module}" in packed
    assert member.endswith("the next run tries it again")
    assert fine == "b'x'"


@pytest.mark.parametrize(
    "data",
    [b"\xff\xfe", b"", b"[" * 200_000, b"null", b'{"label": null}', b'{"label": ["a"]}',
     b'{"x": 1}', b'{"label": "\\ud800"}', b'{"label": "a\\u0000"}'],
)  # fmt: skip
def test_what_says_no_label_beside_an_image_leaves_it_that_of_its_folder(tmp_path, data):
    listing = listed(tarred(tmp_path / "s.tar", {"cat/1.jpg": b"x", "cat/1.json": data}))
    assert rows(listing) == [("cat/1.jpg", "cat", "none")]
    assert listing.passed_over == {".json": 1}


def test_shards_with_splits_in_their_names_and_labels_beside_say_nothing_of_missing_ones(tmp_path):
    files = [
        tarred(tmp_path / f"{split}-000.tar", {"1.jpg": b"x", "1.cls": b"a"})
        for split in ("train", "test")
    ]
    listing = listed(*files)
    assert {(label, split) for _, label, split in rows(listing)} == {("a", "train"), ("a", "test")}
    assert not any("no label" in note for note in listing.label_notes)


@pytest.mark.parametrize("form", FORMATS)
def test_members_are_those_of_tarfile_in_every_format(tmp_path, form):
    members = {
        "a/1.jpg": b"1",
        "b/" + "n" * 95 + ".jpg": b"2" * 511,
        "deep/" + "d" * 90 + "/" + "e" * 90 + "/3.jpg": b"3" * 512,
        "b/4.jpg": b"4" * 513,
        "b/empty.jpg": b"",
    }
    if form != tarfile.USTAR_FORMAT:
        members["l" * 200 + "/" + "m" * 250 + ".jpg"] = b"5"
        members["ü/6.jpg"] = b"6" * 2000
    file = tarred(tmp_path / "a.tar", members, form)
    assert contents(listed(file)) == members


def test_a_folder_without_a_slash_at_its_end_is_an_empty_class(tmp_path):
    info = tarfile.TarInfo("train/cat")
    info.type = tarfile.DIRTYPE
    block = info.tobuf(tarfile.USTAR_FORMAT).replace(b"train/cat/", b"train/cat\0")
    block = block[:148] + b" " * 8 + block[156:]
    block = block[:148] + b"%06o\0 " % sum(block) + block[156:]
    file = tarred(tmp_path / "a.tar", {"train/dog/1.jpg": b"x"})
    file.write_bytes(block + file.read_bytes())
    assert any("'train/cat'" in note for note in listed(file).label_notes)


def test_names_that_are_not_utf8_keep_their_bytes_in_tar(tmp_path):
    name = os.fsdecode(b"caf\xe9/\xff.jpg")
    for form in FORMATS[:2]:
        with tarfile.open(
            tmp_path / "a.tar", "w", format=form, errors="surrogateescape"
        ) as archive:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        (image,) = listed(tmp_path / "a.tar")
        assert image.path == b"caf\xe9/\xff.jpg"
        assert os.fsencode(image.label) == b"caf\xe9"


@pytest.mark.skipif(sys.platform != "linux", reason="GNU tar")
@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_what_gnu_tar_packs_is_read(tmp_path, photos, form):
    file = tmp_path / "a.tar"
    subprocess.run(["tar", f"--format={form}", "-cf", file, "-C", photos, "."], check=True)
    assert [one.digest() for one in listed(file)] == [one.digest() for one in scan(photos)]


@pytest.mark.skipif(sys.platform != "linux", reason="GNU tar")
@pytest.mark.parametrize("form", [["gnu"], ["posix", "0.0"], ["posix", "0.1"], ["posix", "1.0"]])
def test_a_sparse_member_is_listed_with_the_reason_and_those_after_it_are_read(tmp_path, form):
    with (tmp_path / "1.jpg").open("wb") as sparse:
        for place in range(40):
            sparse.seek(place * 100_000)
            sparse.write(b"x" * 5000)
    (tmp_path / "2.jpg").write_bytes(b"after")
    options = [f"--format={form[0]}", *(f"--sparse-version={one}" for one in form[1:])]
    file = tmp_path / "a.tar"
    subprocess.run(["tar", *options, "-Scf", file, "-C", tmp_path, "1.jpg", "2.jpg"], check=True)
    first, second = listed(file)
    assert (first.path, second.read()[0]) == (b"1.jpg", b"after")
    assert "sparse file" in reason(first)


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_every_method_of_zipfile_is_read(tmp_path, method):
    members = {"a/1.jpg": os.urandom(70_000), "a/2.jpg": b"x" * 70_000, "a/3.jpg": b""}
    assert contents(listed(zipped(tmp_path / "a.zip", members, method))) == members


def test_zips_that_were_streamed_and_those_after_other_bytes_are_read(tmp_path):
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.jpg", b"x" * 999)
        with archive.open("a/2.jpg", "w", force_zip64=True) as member:
            member.write(b"y" * 999)
        archive.comment = b"PK\5\6 " * 50
    for before in (b"", b"#!/bin/sh\n" * 30):
        (tmp_path / "a.zip").write_bytes(before + pipe.data)
        assert contents(listed(tmp_path / "a.zip")) == {
            "a/1.jpg": b"x" * 999,
            "a/2.jpg": b"y" * 999,
        }


def test_more_members_than_16_bits_count_are_all_listed(tmp_path):
    file = zipped(
        tmp_path / "a.zip", {f"{number % 9}/{number}.jpg": b"" for number in range(66_000)}
    )
    assert len(listed(file)) == 66_000


def raw_zip(file, members):
    """A zip of stored members, each name as bytes, system, flags and attributes as given."""
    body, directory = b"", b""
    for name, data, flags, method, made_by, attributes in members:
        rest = (method, 0, 0, zlib.crc32(data), len(data), len(data), len(name), 0)
        directory += (
            struct.pack("<4s3H", b"PK\1\2", made_by << 8 | 20, 20, flags)
            + struct.pack("<3H3L2H", *rest)
            + struct.pack("<3H2L", 0, 0, 0, attributes, len(body))
            + name
        )
        body += (
            struct.pack("<4s2H", b"PK\3\4", 20, flags) + struct.pack("<3H3L2H", *rest) + name + data
        )
    end = struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, *[len(members)] * 2, len(directory), len(body), 0
    )
    file.write_bytes(body + directory + end)
    return file


def stored(name, data=b"x", flags=0, method=0, made_by=3, attributes=0):
    return name, data, flags, method, made_by, attributes


def test_names_in_a_zip_are_utf8_or_of_dos_with_its_backslashes(tmp_path):
    file = raw_zip(
        tmp_path / "a.zip",
        [
            stored("ä/1.jpg".encode()),
            stored("ä/2.jpg".encode(), flags=0x800),
            stored(b"\x84/3.jpg"),
            stored(b"b\\4.jpg", made_by=0),
            stored(b"b\\5.jpg"),
        ],
    )
    assert set(contents(listed(file))) == {"ä/1.jpg", "ä/2.jpg", "ä/3.jpg", "b/4.jpg", "b\\5.jpg"}


def test_encrypted_members_and_unknown_methods_are_listed_with_the_reason(tmp_path):
    file = raw_zip(
        tmp_path / "a.zip",
        [stored(b"1.jpg", flags=1), stored(b"2.jpg", method=9), stored(b"3.jpg", method=77),
         stored(b"4.jpg")],
    )  # fmt: skip
    encrypted, deflate64, unknown, good = listed(file)
    assert "is encrypted" in reason(encrypted)
    assert "method 9 (Deflate64)" in reason(deflate64)
    assert "method 77 (unknown)" in reason(unknown)
    assert good.read()[0] == b"x"


def test_one_damaged_member_is_skipped_and_the_rest_is_embedded(tmp_path, photos, stub):
    file = tmp_path / "p.zip"
    zipped(file, {f"red/{path.name}": path.read_bytes() for path in (photos / "red").iterdir()})
    data = bytearray(file.read_bytes())
    data[data.index(b"red03.png") + 200] ^= 255
    file.write_bytes(data)
    store = pipeline.run(stub, listed(file), tmp_path / "p.h5")
    assert len(store) == 8
    (skipped,) = store.skipped
    assert skipped.path == "red/red03.png"
    assert "CRC" in skipped.reason


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_names_that_lead_elsewhere_do_not_and_nothing_is_written(tmp_path, suffix):
    members = {
        "/etc/1.jpg": b"1",
        "../../climbs/2.jpg": b"2",
        "a/../3.jpg": b"3",
        "./a//./4.jpg": b"4",
        "C:/5.jpg": b"5",
        "__MACOSX/a/._6.jpg": b"6",
        "a/.DS_Store": b"7",
        "inner.zip": b"PK\3\4",
        "n" * 60_000 + ".jpg": b"8",
        "d/" * 100 + "9.jpg": b"9",
    }
    (tmp_path / "in").mkdir()
    listing = listed(made(tmp_path / "in" / f"a{suffix}", members))
    assert contents(listing) == {"etc/1.jpg": b"1", "a/4.jpg": b"4", "C:/5.jpg": b"5"}
    assert {label for _, label, _ in rows(listing)} == {"etc", "a", "C:"}
    assert sum(listing.passed_over.values()) == 7
    assert any("2 members with names that lead out" in note for note in listing.notes)
    assert any(".zip" in note for note in listing.notes)
    assert [path.name for path in tmp_path.rglob("*")] == ["in", f"a{suffix}"]


def test_links_and_devices_are_counted_and_not_followed(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    members = {"a/1.jpg": b"x"}
    for number, kind in enumerate(
        (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    ):
        info = members[f"a/l{number}.jpg"] = tarfile.TarInfo()
        info.type, info.linkname = kind, str(tmp_path / "secret.jpg")
    listing = listed(tarred(tmp_path / "a.tar", members))
    assert contents(listing) == {"a/1.jpg": b"x"}
    assert any("5 members links or devices" in note for note in listing.notes)
    file = raw_zip(
        tmp_path / "a.zip",
        [stored(b"1.jpg"), stored(b"2.jpg", b"/etc/passwd", attributes=0o120777 << 16)],
    )
    assert contents(listed(file)) == {"1.jpg": b"x"}


def test_names_with_a_nul_are_passed_over(tmp_path):
    file = raw_zip(
        tmp_path / "a.zip", [stored(b"1.jpg"), stored(b"2.jpg\0.txt.jpg"), stored(b"\0/3.jpg")]
    )
    assert set(contents(listed(file))) == {"1.jpg"}
    info = tarfile.TarInfo("x.jpg")
    info.pax_headers = {"path": "2\0.jpg"}
    file = tarred(tmp_path / "a.tar", {"1.jpg": b"x"})
    with tarfile.open(file, "a", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    assert set(contents(listed(file))) == {"1.jpg"}


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_members_with_one_name_the_last_counts_and_a_line_says_so(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("1.jpg", b"old")
            archive.writestr("./1.jpg", b"new")
    else:
        tarred(file, {"1.jpg": b"old", "./1.jpg": b"new"})
    listing = listed(file)
    assert contents(listing) == {"1.jpg": b"new"}
    assert any("the last counts" in note for note in listing.notes)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_that_was_cut_short_is_refused_wherever(tmp_path, suffix):
    members = {f"a/{number}.jpg": os.urandom(3000) for number in range(9)}
    whole = made(tmp_path / f"a{suffix}", members).read_bytes()
    file = tmp_path / f"cut{suffix}"
    ended = 9 * (512 + 3072)  # of a plain tar: without the zeros at its end it is taken
    for length in (1, 100, 600, 2000, 10_000, len(whole) - (20 if suffix != ".tar" else 15_000)):
        if suffix == ".tar" and (length >= ended or length % 3584 == 0):
            continue
        file.write_bytes(whole[:length])
        refusal(file)
    file.write_bytes(b"")
    assert "the file is empty" in refusal(file)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_archive_and_what_holds_no_image_is_refused(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    file.write_bytes(b"<html>not found</html>" * 99)
    assert "not a " in refusal(file)
    assert "no images in this archive" in refusal(made(file, {}))
    assert "there are 1 .txt" in refusal(made(file, {"readme.txt": b"x"}))
    assert "give them their suffix" in refusal(
        made(file, {"photo": b"\xff\xd8\xff\xe0" + b"x" * 99})
    )


def test_what_is_not_there_or_no_file_or_of_another_kind_is_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "a.zip")
    os.mkfifo(tmp_path / "b.tar")
    assert "not a regular file" in refusal(tmp_path / "b.tar")
    assert "unpack it" in refusal(tmp_path / "c.rar")


def test_archives_are_told_by_their_first_bytes_and_not_by_their_suffix(tmp_path):
    made(tmp_path / "a.tar.gz", {"1.jpg": b"x"}).rename(tmp_path / "a.tar")
    made(tmp_path / "b.zip", {"1.jpg": b"x"}).rename(tmp_path / "b.tar")
    made(tmp_path / "c.tar", {"1.jpg": b"x"}).rename(tmp_path / "c.tgz")
    for name in ("a.tar", "b.tar", "c.tgz"):
        assert contents(listed(tmp_path / name)) == {"1.jpg": b"x"}


def test_packed_files_in_a_row_and_zeros_after_them_are_one_archive(tmp_path):
    plain = tarred(tmp_path / "a.tar", {"1.jpg": b"x" * 999, "2.jpg": b"y"}).read_bytes()
    halves = gzip.compress(plain[:700]) + gzip.compress(plain[700:]) + bytes(512)
    (tmp_path / "a.tar.gz").write_bytes(halves)
    assert contents(listed(tmp_path / "a.tar.gz")) == {"1.jpg": b"x" * 999, "2.jpg": b"y"}


@pytest.mark.parametrize("pack_", [bytes, gzip.compress])
def test_a_tar_without_the_zeros_at_its_end_is_refused_as_cut_short(tmp_path, pack_):
    file = tarred(tmp_path / "a.tar", {"1.jpg": b"x" * 512, "2.jpg": b"y" * 9}, tarfile.GNU_FORMAT)
    whole = file.read_bytes()
    for end in (1024, 2048, 1024 + 512 + 9):  # between two members, after the last, in its padding
        file.write_bytes(pack_(whole[:end]))
        assert "was cut short" in refusal(file)
        assert "copy it again" in refusal(file)
    file.write_bytes(pack_(whole[: 2048 + 512]))  # one block of zeros is enough for tar
    assert len(listed(file)) == 2


def test_archives_that_were_joined_say_that_the_second_is_not_read(tmp_path):
    one = tarred(tmp_path / "1.tar", {"1.jpg": b"x"}).read_bytes()
    two = tarred(tmp_path / "2.tar", {"2.jpg": b"y"}).read_bytes()
    (tmp_path / "a.tar").write_bytes(one + two)
    listing = listed(tmp_path / "a.tar")
    assert len(listing) == 1
    assert any(note.startswith("the archive goes on after its end") for note in listing.notes)


def header(file, change):
    """A tar file of two images whose first header is changed, with its sum put right."""
    data = bytearray(
        tarred(file, {"1.jpg": b"x", "2.jpg": b"y"}, tarfile.USTAR_FORMAT).read_bytes()
    )
    change(data)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    file.write_bytes(data)
    return file


@pytest.mark.parametrize(
    "size", [b"77777777777\0", b"\x80" + b"\0" * 5 + b"\xff" * 6, b"\xff" * 12, b"-0000000001\0",
             b"0000_000001\0", b"zzzzzzzzzzz\0"]
)  # fmt: skip
def test_a_size_that_cannot_be_is_refused_at_once(tmp_path, size):
    refusal(header(tmp_path / "a.tar", lambda data: data.__setitem__(slice(124, 136), size)))


@pytest.mark.parametrize("size", ["-1", "1e9", "99999999999999999999", "9" * 5000, "", "8"])
def test_a_pax_header_that_lies_of_the_size_is_refused_or_believed(tmp_path, size):
    info = tarfile.TarInfo("1.jpg")
    info.pax_headers = {"size": size}
    file = tmp_path / "a.tar"
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
        archive.addfile(tarfile.TarInfo("2.jpg"))
    if size == "8":  # the header after it is its data
        assert [len(data) for data in contents(listed(file)).values()] == [8]
    else:
        refusal(file)


@pytest.mark.parametrize(
    "content", [b"0 path=1.jpg\n", b"1 path=1.jpg\n", b"2 path=1.jpg\n", b"99 path=1.jpg\n",
                b"path=1.jpg\n", b"-9 path=1.jpg\n", b"=", b"13 path1.jpg.\n"]
)  # fmt: skip
def test_a_pax_header_whose_lengths_are_wrong_is_refused_at_once(tmp_path, content):
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, len(content)
    block = info.tobuf(tarfile.USTAR_FORMAT) + content.ljust(512, b"\0")
    file = tmp_path / "a.tar"
    file.write_bytes(block + tarfile.TarInfo("2.jpg").tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    assert "pax header" in refusal(file)


@pytest.mark.parametrize("kind", [b"x", b"L"])
def test_a_header_that_is_longer_than_any_name_takes_no_memory(tmp_path, kind):
    def change(data):
        data[156:157], data[124:136] = kind, b"17777777777\0"

    file = header(tmp_path / "a.tar", change)
    with file.open("r+b") as sparse:
        sparse.truncate(3 << 30)
    tracemalloc.start()
    refusal(file)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_any_number_of_headers_before_a_member_is_no_recursion(tmp_path):
    info = tarfile.TarInfo("x" * 150 + ".jpg")
    long_name = info.tobuf(tarfile.GNU_FORMAT)[:1024]
    rest = tarfile.TarInfo("1.jpg").tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a.tar").write_bytes(long_name * 5000 + rest + bytes(1024))
    assert rows(listed(tmp_path / "a.tar")) == [("x" * 150 + ".jpg", None, "none")]


def test_a_packed_bomb_is_refused_when_it_shows(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacked, "_FREE", 1 << 20)
    info = tarfile.TarInfo("1.jpg")
    info.size = 1 << 24
    for kind in ("gz", "bz2", "xz"):
        file = tmp_path / f"a.tar.{kind}"
        with tarfile.open(file, f"w:{kind}") as archive:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
        tracemalloc.start()
        assert "100 times as large" in refusal(file)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
        tracemalloc.stop()


def test_members_of_a_zip_that_share_their_bytes_are_not_read(tmp_path):
    # https://www.bamsoftware.com/hacks/zipbomb/: the data of one are the headers of the next.
    file = raw_zip(tmp_path / "a.zip", [stored(b"1.jpg", b"x" * 50), stored(b"2.jpg", b"y" * 50)])
    data = bytearray(file.read_bytes())
    place = data.index(b"PK\1\2")
    data[place + 20 : place + 28] = struct.pack("<2L", 120, 120)
    file.write_bytes(data)
    first, second = listed(file)
    assert "as in a zip bomb" in reason(first)
    assert second.read()[0] == b"y" * 50


@pytest.mark.parametrize("size", [200 << 20, (1 << 30) + 1, 0xFFFFFFFE])
def test_a_member_that_says_it_is_huge_is_not_unpacked(tmp_path, size):
    file = zipped(tmp_path / "a.zip", {"1.jpg": bytes(1 << 16)}, zipfile.ZIP_DEFLATED)
    data = bytearray(file.read_bytes())
    place = data.index(b"PK\1\2")
    data[place + 24 : place + 28] = struct.pack("<L", size)
    file.write_bytes(data)
    (image,) = listed(file)
    assert "larger than" in reason(image) or "times as large" in reason(image)


def test_a_member_that_is_larger_than_it_says_is_not_unpacked_any_further(tmp_path):
    file = zipped(tmp_path / "a.zip", {"1.jpg": bytes(1 << 26)}, zipfile.ZIP_DEFLATED)
    data = bytearray(file.read_bytes())
    place = data.index(b"PK\1\2")
    data[place + 24 : place + 28] = struct.pack("<L", 100)
    file.write_bytes(data)
    (image,) = listed(file)
    tracemalloc.start()
    assert "CRC" in reason(image)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_an_archive_that_changed_since_it_was_listed_is_not_read(tmp_path):
    for suffix in (".zip", ".tar", ".tar.gz"):
        file = made(tmp_path / f"a{suffix}", {"1.jpg": b"old", "2.jpg": b"two"})
        first, second = listed(file)
        assert first.read()[0] == b"old"
        made(file, {"1.jpg": b"new, and longer", "2.jpg": os.urandom(2000)})
        assert "changed, or went" in reason(second)
        assert reason(second).endswith("the next run tries it again")
        assert contents(listed(file))["1.jpg"] == b"new, and longer"
        file.unlink()
        assert "changed, or went" in reason(second)
        assert not second.exists()


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_an_archive_that_is_written_anew_at_its_size_and_time_is_not_read(tmp_path, suffix):
    file = made(tmp_path / f"a{suffix}", {"1.jpg": b"old", "2.jpg": b"two"})
    os.utime(file, ns=(10**18, 10**18))
    before = listed(file)
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data)
    os.utime(file, ns=(10**18, 10**18))
    assert "changed, or went" in reason(before[0])
    assert listed(file)[0].stat().stamp != before[0].stat().stamp


@dataclasses.dataclass(frozen=True)
class FarAway:
    """A place where each request is counted, and fails if it should."""

    path: str
    asked: list = dataclasses.field(default_factory=list, compare=False)
    failing: list = dataclasses.field(default_factory=list, compare=False)
    far = True

    @property
    def name(self):
        return f"far://{self.path}"

    def open(self):
        if self.failing:
            raise self.failing.pop()
        self.asked.append("open")
        return open(self.path, "rb")

    def stat(self):
        self.asked.append("stat")
        return LocalPlace(os.fsencode(self.path)).stat()._replace(mtime_ns=0)


class Transient(Unreadable):
    """Of a kind that the place knows."""


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_an_archive_elsewhere_is_asked_for_its_state_only_where_it_is_opened(tmp_path, suffix):
    file = made(tmp_path / f"a{suffix}", {f"{number}.jpg": b"x" for number in range(20)})
    place = FarAway(str(file))
    listing = archives.listed(place.name, [place])
    assert listing.name == place.name
    assert all(image.far for image in listing)
    place.failing[:] = [Transient("busy"), OSError(5, "input/output error")]
    assert "input/output error" in reason(listing[0])
    with pytest.raises(Transient, match="busy"):
        listing[0].read()
    place.asked.clear()
    assert set(contents(listing).values()) == {b"x"}
    [image.stat() for image in listing]
    assert place.asked == ["stat", "open"]


def test_an_archive_elsewhere_that_changed_is_not_read(tmp_path):
    file = made(tmp_path / "a.tar", {"0.jpg": b"x"})
    place = FarAway(str(file))
    (image,) = archives.listed(place.name, [place])
    made(file, {"0.jpg": b"y" * 20_000})
    assert "changed, or went" in reason(image)


def test_sizes_that_no_feature_file_holds_do_not_stop_a_run(tmp_path, photos, stub):
    data = next((photos / "red").iterdir()).read_bytes()
    file = raw_zip(tmp_path / "a.zip", [stored(b"1.png", data), stored(b"2.png", data)])
    raw = bytearray(file.read_bytes())
    place = raw.index(b"PK\1\2")
    raw[place + 24 : place + 28] = b"\xff" * 4
    raw[place + 30 : place + 32] = struct.pack("<H", 12)
    raw[place + 51 : place + 51] = struct.pack("<2HQ", 1, 8, 2**64 - 1)
    end = raw.index(b"PK\5\6")
    raw[end + 12 : end + 16] = struct.pack("<L", end - place)
    file.write_bytes(raw)
    store = pipeline.run(stub, listed(file), tmp_path / "a.h5")
    assert list(store.paths) == ["2.png"]
    assert [one.path for one in store.skipped] == ["1.png"]


def test_stamps_change_with_the_archive_and_are_the_same_in_every_process(tmp_path):
    file = made(tmp_path / "a.zip", {"1.jpg": b"x", "2.jpg": b"x"})
    before = [image.stat() for image in listed(file)]
    assert before == [pickle.loads(pickle.dumps(image)).stat() for image in listed(file)]
    assert all(stat.mtime_ns == 0 and 0 < stat.stamp < 2**64 for stat in before)
    assert before[0].stamp != before[1].stamp
    os.utime(file, ns=(0, 0))
    assert not {stat.stamp for stat in before} & {image.stat().stamp for image in listed(file)}


def test_references_pickle_small(tmp_path):
    file = made(tmp_path / "a.tar", {f"cat/{number}.jpg": b"x" for number in range(256)})
    assert len(pickle.dumps(list(listed(file)))) < 256 * 150


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_many_threads_read_in_any_order_what_is_there(tmp_path, suffix):
    members = {f"{number:03}.jpg": os.urandom(number * 97 + 1) for number in range(200)}
    images = sorted(listed(made(tmp_path / f"a{suffix}", members)), key=lambda one: one.place)
    some = images[::7] + images[::-3] + images
    with ThreadPoolExecutor(8) as threads:
        for image, data in zip(some, threads.map(lambda one: one.read()[0], some), strict=True):
            assert data == members[image.path.decode()]


def test_two_units_side_by_side_unpack_an_archive_no_more_than_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacked, "_KEPT", 30_000)
    pieces = []
    original = unpacked.Forward._piece

    def counted(self):
        piece = original(self)
        pieces.append(len(piece))
        return piece

    members = {f"{number:04}.jpg": os.urandom(1000) for number in range(1200)}
    images = sorted(listed(made(tmp_path / "a.tar.gz", members)), key=lambda one: one.place)
    monkeypatch.setattr(unpacked.Forward, "_piece", counted)
    monkeypatch.setattr(unpacked, "_PIECE", 4096)
    units = [images[start : start + 200] for start in range(0, 1200, 200)]
    for one, other in zip(units[::2], units[1::2], strict=True):
        for pair in zip(one, other, strict=True):
            for image in pair:
                assert image.read()[0] == members[image.path.decode()]
    assert sum(pieces) < 2.1 * 1200 * 1536


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_forked_process_has_files_of_its_own(tmp_path):
    members = {f"{number}.jpg": bytes([number]) * 5000 for number in range(50)}
    images = list(listed(made(tmp_path / "a.tar", members)))
    images[0].read()
    child = os.fork()
    good = all(image.read()[0] == members[image.path.decode()] for image in images * 20)
    if child == 0:
        os._exit(0 if good else 1)
    assert good
    assert os.waitpid(child, 0)[1] == 0


def test_few_archives_stay_open(tmp_path):
    files = [made(tmp_path / f"{number:03}.tar", {"1.jpg": b"x"}) for number in range(40)]
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert len(contents(listed(*files))) == 40
    after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after - before <= 8


@pytest.mark.sweep
@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.xz"])
def test_whatever_byte_is_damaged_there_is_one_line_or_a_reason(tmp_path, suffix):
    whole = made(
        tmp_path / f"a{suffix}", {f"a/{n}.jpg": os.urandom(300) for n in range(3)}
    ).read_bytes()
    file = tmp_path / f"b{suffix}"
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << (place % 8)
        file.write_bytes(data)
        try:
            listing = listed(file)
        except SourceError:
            continue
        for image in listing:
            try:
                image.read()
            except Unreadable:
                continue
