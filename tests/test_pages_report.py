"""The report: what stands in it, what it never shows, and how large it may become."""

import base64
import collections
import hashlib
import html.parser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from headstart.classify import Review, review, train, train_all
from headstart.classify.scores.evaluation import Scores
from headstart.extract.pipeline import run
from headstart.features import HeadstartError, MissingExtra, SourceError
from headstart.features.durable.table import in_html
from headstart.features.errors import encodable
from headstart.pages import commands, report
from headstart.pages.pictures import Missing
from headstart.pages.report import making, names, thumbnails
from headstart.pages.report.atlas import COLOURS, Atlas
from headstart.pages.report.confusion import Confusion
from headstart.pages.report.content import Contents
from headstart.pages.report.thumbnails import Thumbnails
from hypothesis import given
from hypothesis import strategies as st

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "\u202eevil\u202c \u2066x \u05d0\u05d1\u05d2",
    "&lt;b&gt; {{ 7*7 }} {% x %}",
    "caf\udce9 \x00\x1b[31m",
]


class Page(html.parser.HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.texts = [], [], [], []
        self.scripts, self.styles, self._inside = [], [], None
        self.feed(text)
        self.text = " ".join("".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        self._inside = {"script": self.scripts, "style": self.styles}.get(tag)
        if "id" in values:
            self.ids.append(values["id"])
        self.links += [values[name] for name in ("href", "src") if name in values]

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        (self.texts if self._inside is None else self._inside).append(data)


def page_of(path):
    return Page(Path(path).read_text("utf-8"))


@pytest.fixture
def pets(tmp_path, photos, write_image, make_stub):
    """A feature file of blue and red images, three of which lie in the wrong folder."""
    for number in range(3):
        write_image(photos / "blue" / f"odd{number}.png", 700 + number, (200, 40, 30))
    for folder in ("blue", "red"):
        for number in range(11):
            colour = (30, 60, 200) if folder == "blue" else (200, 40, 30)
            write_image(
                photos / folder / f"more{number:02}.png", 300 + number + len(folder), colour
            )
    (photos / "red" / "broken.png").write_bytes(b"no image")
    return run(make_stub(), photos, tmp_path / "pets.h5")


@pytest.fixture
def head(pets):
    return train(pets, folds=3)


def test_the_answer_is_the_first_sentence(pets, head, tmp_path):
    report(head, pets, tmp_path / "pets.html")
    scores, page = head.scores, page_of(tmp_path / "pets.html")
    low, high = scores.interval
    assert (
        f"Asked which of 2 classes an image shows (blue, red), this head is right on "
        f"{scores.accuracy:.1%} of {scores.rows} images, by 3-fold cross-validation (95% interval "
        f"{low:.1%} to {high:.1%}), where always guessing the commonest class is right on "
        f"{scores.baseline:.1%}."
    ) in page.text
    order = [place for place in page.ids if not re.match(r"[tkc]\d+$", place)]
    sections = "mistakes suspects copies confusion classes trust strange map made"
    assert [place for place in order if place not in ("points", "only", "here")] == (
        sections.split()
    )


def test_the_page_needs_nothing_but_itself(pets, head, tmp_path):
    report(head, pets, tmp_path / "pets.html")
    page = page_of(tmp_path / "pets.html")
    assert page.links
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert not {tag for tag, _ in page.tags} & {"img", "iframe", "object", "embed", "form", "base"}
    assert not [name for _, values in page.tags for name in values if name.startswith("on")]
    assert not [values for _, values in page.tags if "style" in values]  # the policy forbids it
    policy = next(values["content"] for _, values in page.tags if "http-equiv" in values)
    for (text,), kind in ((page.scripts, "script-src"), (page.styles, "style-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
        assert "url(" not in text
        assert "import" not in text
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert len(page.scripts[0].encode()) <= 15_000


def test_every_link_leads_somewhere_and_every_image_is_in_it_once(pets, head, tmp_path):
    done = report(head, pets, tmp_path / "pets.html")
    page = page_of(tmp_path / "pets.html")
    assert len(set(page.ids)) == len(page.ids)
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)
    pictures = [values["href"] for tag, values in page.tags if tag == "image"]
    assert len(pictures) == len(set(pictures)) == done.shown
    assert {place for place in page.ids if place.startswith("t") and place[1:].isdigit()} <= {
        *inside,
        *(values.get("data-t") for _, values in page.tags),
    }
    assert done.bytes == (tmp_path / "pets.html").stat().st_size


def test_the_same_head_and_file_give_the_same_page(pets, head, tmp_path):
    report(head, pets, tmp_path / "pets.html")
    first = (tmp_path / "pets.html").read_bytes()
    report(head, pets, tmp_path / "pets.html")
    assert (tmp_path / "pets.html").read_bytes() == first


def test_mistakes_suspects_skipped_files_and_cells_are_in_it(pets, head, tmp_path):
    report(head, pets, tmp_path / "pets.html")
    page = page_of(tmp_path / "pets.html")
    assert head.scores.mistakes
    for one in head.scores.mistakes:
        assert one["path"] in page.text
    assert "is blue taken for red" in page.text
    assert "labelled blue looks like red" in page.text
    assert "1 file was skipped" in page.text
    assert "red/broken.png" in page.text
    assert "blue taken for red: 3" in [values.get("aria-label") for _, values in page.tags]


def test_an_image_that_is_gone_or_has_changed_is_missing_and_no_other_is_shown(
    pets, head, photos, tmp_path, write_image
):
    report(head, pets, tmp_path / "all.html")
    whole = page_of(tmp_path / "all.html")
    write_image(photos / "blue" / "odd0.png", 9999, (0, 255, 0))
    (photos / "blue" / "odd1.png").unlink()
    done = report(head, pets, tmp_path / "some.html")
    assert done.missing == {"no longer there": 1, "has changed since": 1}
    page = page_of(tmp_path / "some.html")
    assert page.text.count("has changed since") >= 2  # above, and in place of the image
    pictures = {one["href"] for tag, one in whole.tags if tag == "image"}
    left = {one["href"] for tag, one in page.tags if tag == "image"}
    assert left < pictures


def test_without_any_image_the_report_still_says_everything_else(pets, head, photos, tmp_path):
    photos.rename(tmp_path / "elsewhere")
    done = report(head, pets, tmp_path / "gone.html")
    assert done.shown == 0
    page = page_of(tmp_path / "gone.html")
    assert f"{head.scores.accuracy:.1%}" in page.text
    assert "--images says where they are now" in page.text
    found = report(head, pets, tmp_path / "found.html", images=tmp_path / "elsewhere")
    assert found.missing == {}
    assert found.shown > 40
    with pytest.raises(SourceError, match="--images"):
        report(head, pets, tmp_path / "none.html", images=tmp_path / "nowhere")
    assert not (tmp_path / "none.html").exists()


def test_of_another_file_the_scores_are_those_on_it(pets, head, tmp_path, fill_photos, make_stub):
    more = fill_photos(tmp_path / "more", count=14)
    other = run(make_stub(), more, tmp_path / "more.h5")
    for number, path in enumerate(sorted(more.rglob("*.png"))):
        path.write_bytes(path.read_bytes() + bytes([number]))  # other bytes, other digests
    report(head, other, tmp_path / "more.html")
    page = page_of(tmp_path / "more.html")
    assert "on all labelled images" in page.text
    assert "trained on another feature file" in page.text
    assert "Would more images help?" not in page.text


def test_images_in_an_archive_are_shown(pets, head, photos, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    of_folder = report(head, pets, tmp_path / "folder.html")
    of_archive = report(head, pets, tmp_path / "archive.html", images=archive)
    assert of_archive.missing == {}
    pictures = [
        {one["href"] for tag, one in page_of(tmp_path / name).tags if tag == "image"}
        for name in ("folder.html", "archive.html")
    ]
    assert pictures[0] == pictures[1]
    assert of_archive.shown == of_folder.shown


def test_a_file_without_labels_gets_one_line(cli, head, photos, tmp_path, make_stub):
    head.save(tmp_path / "pets.joblib")
    run(make_stub(), photos, tmp_path / "bare.h5", labels="none")
    done = cli("report", tmp_path / "pets.joblib", tmp_path / "bare.h5", "-o", tmp_path / "x.html")
    assert "label" in done.failure()
    assert not (tmp_path / "x.html").exists()


def test_what_makes_no_report_waits_for_nothing_that_a_report_needs():
    loaded = subprocess.run(
        [sys.executable, "-c", "import headstart.pages, sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert not {"jinja2", "markupsafe", "PIL", "headstart.pages.pictures"} & set(loaded)


def test_heads_side_by_side_are_there_only_where_several_were_trained(pets, head, tmp_path):
    report(head, pets, tmp_path / "one.html")
    assert "side by side" not in page_of(tmp_path / "one.html").text
    best, standings = train_all(pets, folds=3)
    report(best, pets, tmp_path / "all.html", standings=standings, saved="x.skops")
    page = page_of(tmp_path / "all.html")
    assert "Kinds of head side by side" in page.text
    assert all(one.name in page.text for one in standings)
    assert "--head all" in page.text


@pytest.mark.parametrize("classes", [7, 40], ids=["as a table", "as a picture"])
def test_hostile_names_are_shown_and_are_nothing_else(make_store, tmp_path, classes):
    odd = [*HOSTILE, "x" * 10_000, "\u0301" * 500]
    known = (odd * (1 + classes // len(odd)))[:classes]
    known = [f"{name}{number}" for number, name in enumerate(known)]
    generator = np.random.default_rng(0)
    codes = np.repeat(np.arange(classes), 8)
    features = generator.normal(size=(classes, 12))[codes] + generator.normal(size=(len(codes), 12))
    store = make_store(features, [known[code] for code in codes])
    report(train(store, folds=3), store, tmp_path / "odd.html")
    page = page_of(tmp_path / "odd.html")
    tags = collections.Counter(tag for tag, _ in page.tags)
    assert tags["script"] == 1
    assert not tags["img"]
    assert not [name for _, values in page.tags for name in values if name.startswith("on")]
    assert "</script>" in page.text
    assert "{{ 7*7 }}" in page.text
    assert "caf\\xe9" in page.text
    raw = (tmp_path / "odd.html").read_text("utf-8")
    assert not set(raw) & set("\u202e\u202c\u2066\x00\x1b")
    assert len(raw) < 1_000_000


@given(st.text(st.characters(exclude_categories=())), st.integers(5, 60))
def test_a_name_is_cut_to_what_any_page_can_hold(text, most):
    short = names.cut(text, most)
    assert len(short) <= most
    short.encode("utf-8")
    if text.isascii() and text.isprintable() and len(text) <= most:
        assert short == text


@pytest.mark.skipif(os.name == "nt", reason="needs bash")
def test_a_shell_takes_a_quoted_word_for_what_it_is():
    words = [
        "a b",
        "it's",
        "-x",
        "--out",
        "caf\udce9",
        "\u202eevil",
        "line\nbreak",
        "$(x) `y` \\",
        "",
    ]
    words += ["γάτα", "\x1b[0m", 'q"q', "-"]
    line = " ".join(map(commands.quoted, words))
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True
    ).stdout
    received = [os.fsdecode(one) for one in done.split(b"\0")[:-1]]
    assert received == [f"./{word}" if re.match("-.", word) else word for word in words]
    assert encodable(line) == line


def test_the_commands_say_what_was_asked_for(pets, tmp_path):
    head = train(pets, "svm", folds=3, seed=7, class_weight="balanced", min_images=2)
    lines = making.commands(head, pets, "p.html", images="a b", saved="-h.skops", chosen=False)
    extract, trained, made = map(shlex.split, lines)
    assert extract[:5] == ["headstart", "extract", str(tmp_path / "photos"), "-o", str(pets.path)]
    assert extract[5:] == ["--backbone", "Xception", "--weights", "random", "--size", "71"]
    assert trained[:5] == ["headstart", "train", str(pets.path), "-o", "./-h.skops"]
    asked = "--head svm --folds 3 --seed 7 --class-weight balanced --min-images 2"
    assert trained[5:] == asked.split()
    assert made == (
        ["headstart", "report", "./-h.skops", str(pets.path), "--images", "a b", "-o", "p.html"]
    )


class Fakes:
    """Images of a given size in bytes; every third is missing."""

    def __init__(self, size):
        self.asked, self._size = [], size

    def thumbnail(self, row, side):
        self.asked.append(row)
        if row % 3 == 0:
            raise Missing("no longer there")
        return bytes([row % 256]) * self._size

    def difference(self, row, other, side):
        return self.thumbnail(1000 + row, side)


def test_thumbnails_fill_the_room_in_the_order_of_the_wishes(monkeypatch):
    monkeypatch.setattr(thumbnails, "_size", lambda data: (128, 96))
    fakes = Fakes(300)  # 400 bytes in base64
    wishes = [5, 7, 5, (1, 2), 9, *range(100, 200), 7]
    thumbs = Thumbnails.of(fakes, wishes, room=4_000)
    assert list(thumbs.made) == [5, 7, (1, 2), 100, 101, 103, 104, 106, 107, 109]
    assert set(thumbs.missing) == {9, 102, 105, 108}
    assert thumbs.reasons == {"no longer there": 4}
    assert len(Thumbnails.of(fakes, wishes, most=3).made) == 3
    assert len({one.id for one in thumbs.made.values()}) == len(thumbs.made)


def scored(truth, predicted, classes):
    """Scores and a review of predictions, with what the confusion matrix needs."""
    pairs, counts = np.unique(np.stack([truth, predicted]), axis=1, return_counts=True)
    confusion = tuple(zip(*pairs.tolist(), counts.tolist(), strict=True))
    values = dict.fromkeys(Scores.__dataclass_fields__)
    scores = Scores(
        **values | {"confusion": confusion, "per_class": {str(k): {} for k in range(classes)}}
    )
    values = dict.fromkeys(Review.__dataclass_fields__)
    found = {"rows": np.arange(len(truth)), "truth": truth, "predicted": predicted}
    confidence = np.random.default_rng(0).random(len(truth))
    return scores, Review(**values | found | {"confidence": confidence})


@pytest.mark.parametrize(("classes", "rows"), [(2, 4000), (60, 3000), (1000, 20_000)])
def test_the_cells_hold_every_image_once_and_show_their_own(classes, rows):
    generator = np.random.default_rng(classes)
    truth = generator.integers(0, classes, rows)
    predicted = np.where(generator.random(rows) < 0.8, truth, generator.integers(0, classes, rows))
    scores, found = scored(truth, predicted, classes)
    confusion = Confusion.of(scores, found)
    assert sum(cell.images for cell in confusion.cells) == rows
    shown = 0
    for cell in confusion.cells:
        mine = np.flatnonzero((truth == cell.truth) & (predicted == cell.predicted))
        assert cell.images == len(mine)
        assert set(cell.places) <= set(mine.tolist())
        sure = found.confidence[list(cell.places)]
        assert (np.diff(sure) * (1 if cell.right else -1) >= 0).all()
        shown += len(cell.places)
    assert 0 < shown <= 1800
    assert 0 < len(confusion.opened) <= 400
    if classes <= 60:
        assert len(confusion.drawn) == len(confusion.cells)


def test_a_score_of_several_kinds_of_head_shows_the_mistakes_that_are_known(pets, tmp_path):
    best, _ = train_all(pets, folds=3)
    found = review(best, pets)
    contents = Contents(found, pets)
    paths = [one["path"] for one in best.scores.mistakes]
    if not len(found.rows):
        assert [image.path for image in contents.mistakes] == paths
    assert all(pets.paths[image.row] == image.path for image in contents.mistakes)


def test_a_page_that_cannot_be_is_refused_before_anything_is_trained(cli, pets, tmp_path):
    for name, why in (
        ("pets.pdf", "a report is written as NAME.html"),
        ("nowhere/pets.html", "no such folder"),
    ):
        done = cli("train", pets.path, "-o", tmp_path / "x.joblib", "--report", tmp_path / name)
        assert why in done.failure()
        assert not (tmp_path / "x.joblib").exists()
    (tmp_path / "same.html").write_bytes(pets.path.read_bytes())
    done = cli(
        "train", tmp_path / "same.html", "-o", tmp_path / "x.joblib",
        "--report", tmp_path / "same.html",
    )  # fmt: skip
    assert "is what the report is of" in done.failure()


def test_without_jinja_a_report_is_refused_before_the_work(cli, pets, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = cli("train", pets.path, "-o", tmp_path / "x.joblib", "--report", tmp_path / "pets.html")
    assert 'python3 -m pip install "headstart[pages]"' in done.failure()
    assert not (tmp_path / "x.joblib").exists()
    with pytest.raises(MissingExtra):
        report(None, pets, tmp_path / "pets.html")


def test_the_commands_write_the_page_and_say_so(cli, pets, photos, tmp_path):
    out, head = tmp_path / "pets.html", tmp_path / "pets.joblib"
    done = cli("train", pets.path, "-o", head, "--folds", "3", "--report", out)
    assert done.code == 0
    assert done.out.splitlines()[-1] == f"report: {out}"
    first = out.read_bytes()
    assert cli("report", head, pets.path, "-o", out).out == f"report: {out}\n"
    assert out.read_bytes() == first
    (photos / "blue" / "odd0.png").unlink()
    done = cli("report", head, pets.path, "-o", out)
    assert "note: 1 image could not be shown: no longer there; --images says" in done.out
    done = json.loads(cli("report", head, pets.path, "-o", out, "--json").out)
    assert done["missing"] == {"no longer there": 1}
    assert done["path"] == str(out)


def test_the_head_is_saved_whatever_becomes_of_the_report(cli, pets, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise HeadstartError("the page cannot be made")

    monkeypatch.setattr("headstart.classify.studies.review.places", fail)
    out, head = tmp_path / "pets.html", tmp_path / "pets.joblib"
    out.write_text("before")
    done = cli("train", pets.path, "-o", head, "--folds", "3", "--report", out)
    assert done.code == 1
    assert f"saved as {head}" in done.out
    assert done.err.splitlines()[-1] == "headstart: the page cannot be made"
    assert head.exists()
    assert out.read_text() == "before"
    assert not list(tmp_path.glob(".*.tmp"))


def test_in_a_notebook_everything_is_a_small_table(pets, head):
    import headstart.apply
    from headstart.classify import compare

    predictions = headstart.apply.Predictions(
        ["<b>cat", "dog"], ["a", "b"], [[("<b>cat", 0.9)], []], [True, None], ["", "broken"]
    )
    for one, said in (
        (head, f"{head.scores.accuracy:.1%}"),
        (head.scores, f"{head.scores.baseline:.1%}"),
        (pets, "blue, red"),
        (head.predict(pets), "unfamiliar"),
        (compare([pets, pets], folds=3), "behind the best"),
        (predictions, "&lt;b&gt;cat"),
    ):
        page = Page(one._repr_html_())
        assert page.tags[0][0] == "table"
        assert {tag for tag, _ in page.tags} <= {"table", "caption", "tr", "th", "td"}
        assert said in one._repr_html_()
        assert len(one._repr_html_()) < 2000


@given(st.text(st.characters(exclude_categories=())))
def test_a_table_of_a_notebook_holds_any_text(text):
    made = in_html(text, [(text, text)], (text, text))
    made.encode("utf-8")
    assert {tag for tag, _ in Page(made).tags} == {"table", "caption", "tr", "th", "td"}


def luminance(colour):
    levels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in levels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """As WCAG 2 defines it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def mixed(one, other, share):
    pairs = [
        (int(one[place : place + 2], 16), int(other[place : place + 2], 16)) for place in (1, 3, 5)
    ]
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in pairs)


def test_colours_can_be_told_from_their_ground_in_light_and_dark():
    static = Path(thumbnails.__file__).parent / "static" / "report.css"
    themes = re.findall(r":root \{(.*?)\}", static.read_text(), re.DOTALL)
    assert len(themes) == 3  # light, dark, printed
    for theme in themes:
        colours = {"#fff": "#ffffff", "#000": "#000000", "#ccc": "#cccccc"}
        is_ = {
            name: colours.get(value, value)
            for name, value in re.findall(r"--([\w]+): (#\w+);", theme)
        }
        for text in ("ink", "soft", "accent", "wrong", "right"):
            assert contrast(is_[text], is_["paper"]) >= 4.5, text
        assert contrast(is_["soft"], is_["tile"]) >= 4.5
        assert contrast(is_["ink"], is_["tile"]) >= 4.5
        for code in range(9):
            assert contrast(is_[f"k{code}"], is_["tile"]) >= 3, code
        for tint, share in (("accent", 0.42), ("wrong", 0.48)):
            assert contrast(is_["ink"], mixed(is_[tint], is_["paper"], share)) >= 4.5


def test_points_without_a_label_lie_below_the_others_and_take_no_colour_from_a_class():
    labels = ["a", None, "b", None, "a", None]
    atlas = Atlas.of(np.zeros((6, 2)), range(6), labels, [False] * 6)
    assert atlas.classes == (("a", 2), ("b", 1))
    assert atlas.unlabelled == 3
    assert [point.row for point in atlas.points] == list(atlas.order) == [1, 3, 5, 0, 2, 4]
    assert [point.colour for point in atlas.points] == [COLOURS] * 3 + [0, 1, 0]
    assert [point.code for point in atlas.points] == [2, 2, 2, 0, 1, 0]
