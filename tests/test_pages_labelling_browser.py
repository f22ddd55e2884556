"""The labelling page in a real browser: by keys alone, killed, begun again, with hostile names."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from headstart.extract import extract, scan
from headstart.extract.pipeline import run
from headstart.features import FeatureStore, write

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
HOSTILE = [
    "</script><img src=x onerror=\"document.title='hacked'\">",
    "\"'`&amp;<b>${1}",
    "\u202egnp.exe\u2067",
    "n" * 10_000,
]

SHOWN = [*HOSTILE[:2], "\\u202egnp.exe\\u2067", "n" * 299 + "…"]

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(
    BROWSER is None or os.name == "nt", reason="there is no Chromium on this machine"
)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as playing:
        browser = playing.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & switches it off
from headstart.cli.main import main
main()
"""


class Running:
    """The command in a process of its own, and pages that it opened."""

    def __init__(self, browser, folder, *arguments):
        self.browser, self.pages = browser, []
        command = [sys.executable, "-P", "-c", COMMAND, "label", *map(str, arguments)]
        self.process = subprocess.Popen(
            [*command, "--no-browser"], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        for line in self.process.stdout:
            found = re.search(r"http://127\S+", line)
            if found:
                self.address = found[0]
                return
        raise AssertionError("it told no address")

    def open(self, **how):
        page = self.browser.new_page(viewport={"width": 1280, "height": 800}, **how)
        page.set_default_timeout(20_000)
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on(
            "console", lambda said: page.faults.append(said.text) if said.type == "error" else 0
        )
        page.goto(self.address)
        page.wait_for_selector(".card.here")
        self.pages.append(page)
        return page

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        said = self.process.stdout.read()
        assert self.process.wait(30) == 0
        return said


@pytest.fixture
def serve(browser, tmp_path):
    begun = []

    def serve(*arguments):
        begun.append(Running(browser, tmp_path, *arguments))
        return begun[-1]

    yield serve
    for one in begun:
        with contextlib.suppress(OSError):
            one.process.kill()
        one.process.wait(20)
        one.process.stdout.close()
        for page in one.pages:
            page.close()


def is_labelled(page, number):
    page.wait_for_function(
        "number => document.getElementById('count').textContent.startsWith(`${number} of`)",
        arg=number,
    )
    page.wait_for_function("() => !document.querySelector('.card.pending')")


def here(page):
    return page.get_attribute(".card.here", "title")


def kept(journal):
    """The labels that a journal comes to, by digest."""
    stack = []
    for line in map(json.loads, Path(journal).read_text().splitlines()[1:]):
        if "labels" in line:
            stack.append({d: name for name, ds in line["labels"].items() for d in ds})
        elif line.get("undo"):
            stack.pop()
    return {digest: name for labels in stack for digest, name in labels.items()}


@pytest.fixture(scope="module")
def pictures(fill_photos, tmp_path_factory):
    """The folder of 600 photographs where the machine has them, else of 60 small images; the names
    of their classes, and which is that of a path."""
    data = os.environ.get("HEADSTART_TEST_DATA")
    if not data:
        folder, names = tmp_path_factory.mktemp("photos"), ("blue", "red")
        fill_photos(folder, count=30)
    else:
        folder, names = Path(data) / "images" / "cats_vs_dogs", ("cat", "dog")

    def true(path):
        return int(os.path.basename(path).startswith(names[1]))

    return folder, names, true


@pytest.fixture(scope="module")
def made(pictures, tmp_path_factory, make_stub):
    """A feature file of the pictures without labels; by a real backbone if they are photographs."""
    folder, _, _ = pictures
    data, out = os.environ.get("HEADSTART_TEST_DATA"), tmp_path_factory.mktemp("made") / "pets.h5"
    if not data:
        return run(make_stub(), folder, out, labels="none")
    weights = Path(data) / "weights" / "mobilenet_v2_imagenet_notop.weights.h5"
    settings = {"backbone": "MobileNetV2", "size": 96, "weights": weights}
    return extract(folder, out, labels="none", **settings)


@pytest.fixture
def features(made, tmp_path):
    return FeatureStore(shutil.copy(made.path, tmp_path / "pets.h5"))


def test_forty_images_are_labelled_by_keys_and_nothing_is_ever_lost(
    serve, pictures, features, tmp_path, cli, monkeypatch
):
    _, names, true = pictures
    server = serve("pets.h5", "-o", "labels.csv")
    page = server.open()
    # The first class is named on the page, and the first image gets it.
    first = true(here(page))
    for label, number in ((names[first], 1), (names[1 - first], 2)):
        while true(here(page)) != names.index(label):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("n")
        page.keyboard.type(label)
        page.keyboard.press("Enter")
        is_labelled(page, number)
        page.keyboard.press("Home")
    keys = {first: "1", 1 - first: "2"}
    labelled = 2
    while labelled < 40:
        page.keyboard.press("s") if "done" in page.get_attribute(".card.here", "class") else None
        if labelled in (10, 20):  # several at once, accepted as they are predicted
            page.keyboard.press("Shift+ArrowRight")
            page.keyboard.press("Shift+ArrowRight")
            page.keyboard.press("Enter")
            labelled += 3
        else:
            page.keyboard.press(keys[true(here(page))])
            labelled += 1
        is_labelled(page, labelled)
    assert len(kept(tmp_path / "labels.jsonl")) == labelled

    for left in (1, 2):
        page.keyboard.press("u")
        is_labelled(page, labelled - left)
    assert page.inner_text("#said").startswith("Undone: ")
    before = kept(tmp_path / "labels.jsonl")
    assert len(before) == labelled - 2
    page.reload()
    is_labelled(page, labelled - 2)
    assert page.inner_text("#estimate").startswith("◇")
    assert page.faults == []

    page.keyboard.press(keys[true(here(page))])
    server.kill()
    with contextlib.suppress(ValueError):  # it may or may not have come before
        before = kept(tmp_path / "labels.jsonl")
    server = serve("pets.h5", "-o", "labels.csv")
    page = server.open()
    is_labelled(page, len(before))
    assert kept(tmp_path / "labels.jsonl") == before
    assert f"{len(before)} label" in server.stop().replace("labels", "label")

    monkeypatch.chdir(tmp_path)
    digests = {
        path: row.tobytes().hex()
        for path, row in zip(features.paths, features.digests, strict=True)
    }
    given = {os.path.basename(os.fsdecode(one.path)): one.label for one in scan("labels.csv")}
    assert len(given) == len(features)
    assert {before[digests[p]] for p in features.paths if digests[p] in before} == set(names)
    for path in features.paths:
        assert given[os.path.basename(path)] == before.get(digests[path])
    settings = ["--weights", "random", "--size", "71"]
    if os.environ.get("HEADSTART_TEST_DATA"):
        recorded = features.environment["weights"]["path"]
        settings = ["--backbone", "MobileNetV2", "--size", "96", "--weights", recorded]
    done = cli("extract", "labels.csv", "-o", "pets.h5", *settings, "--json")
    assert json.loads(done.out)["embedded"] == 0
    assert cli("train", "pets.h5", "-o", "pets.joblib").code == 0
    assert cli("predict", "pets.joblib", "pets.h5", "-o", "out.csv").code == 0
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    right = [row["label"] == names[true(row["path"])] for row in rows]
    assert np.mean(right) > 0.7


@pytest.fixture
def odd(tmp_path, write_image, stub):
    """Images and classes whose names are made to break a page."""
    folder = tmp_path / "odd"
    with (tmp_path / "odd.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label"])
        for number in range(24):
            name = HOSTILE[number % 3].replace("/", "%") + f"{number}.png"
            if number % 3 == 0:  # a folder that ends in `<` and a file that goes on with script
                name = f"<{number}/script><img src=x onerror=alert(1)>.png"
            write_image(folder / name, number, (10 * number, 40 * (number % 4), 90))
            label = HOSTILE[number % 4] if number < 20 else ""
            table.writerow([f"odd/{name}", label])
    return run(stub, tmp_path / "odd.csv", tmp_path / "odd.h5")


def test_hostile_names_are_shown_and_do_nothing(serve, odd, tmp_path):
    server = serve("odd.h5", "-o", "labels.csv")
    page = server.open()
    page.on("dialog", lambda dialog: page.faults.append(dialog.message))
    for queue in ("suspects", "near-copies", "unfamiliar", "all"):
        page.check(f"input[value={queue}]", force=True)
        page.wait_for_timeout(200)
    page.wait_for_selector(".card .label:visible")
    shown = page.locator("#classes bdi").all_inner_texts()
    assert sorted(shown) == sorted(SHOWN)
    page.keyboard.press("n")
    page.keyboard.type("<svg onload=alert(2)>")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('#classes bdi').length === 5")
    is_labelled(page, 20)
    page.keyboard.press("u")
    page.wait_for_selector("#said:visible")
    page.keyboard.press("/")
    page.keyboard.type("<img src=x onerror")
    page.wait_for_function("() => document.getElementById('total').textContent.startsWith('11 ')")
    assert page.title().startswith("20 of 24")
    # No element came out of a name, and no name makes the page wider than it is.
    assert page.locator("img[onerror], script:not([src]), svg").count() == 0
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.faults == []
    assert {*FeatureStore(odd.path).label_names} == {*HOSTILE}


FOCUSED = """() => {
  const on = document.activeElement;
  const shown = on.matches("input[type=radio]") ? on.nextElementSibling : on;
  return [on.id || on.value || on.className || on.tagName, getComputedStyle(shown).outlineStyle];
}"""


def test_everything_is_reached_by_the_keyboard_and_has_a_name(serve, pictures, features):
    page = serve("pets.h5", "-o", "labels.csv", "--classes", "a,b").open()
    seen = []
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    for _ in range(30):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUSED))
    names = [name for name, _ in seen]
    for one in ("write", "bring", "train", "help", "uncertain", "search", "new", "map"):
        assert one in names
    assert any(name.startswith("image-") for name in names)
    assert all(style != "none" for name, style in seen if name != "BODY"), seen
    # Whatever can be worked has a name for those who do not see it.
    unnamed = page.evaluate(
        "() => [...document.querySelectorAll('button, input, canvas, progress, [role=option]')]"
        ".filter(one => !(one.ariaLabel || one.textContent.trim() || one.labels?.length)).length"
    )
    assert unnamed == 0
    assert page.get_attribute("#estimate", "aria-live") == "polite"
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    # The map by keys: a circle around its middle filters the grid, and Escape shows all again.
    page.wait_for_function("() => !document.getElementById('map-note').textContent", timeout=60_000)
    page.keyboard.press("m")
    for key in ("ArrowRight", "+", "+", "Enter"):
        page.keyboard.press(key)
    number = len(features)
    page.wait_for_function(
        "all => parseInt(document.getElementById('total').textContent) < all", arg=number
    )
    page.keyboard.press("Escape")
    page.wait_for_function(
        "all => parseInt(document.getElementById('total').textContent) === all", arg=number
    )
    assert page.faults == []


def test_after_a_line_is_drawn_the_keys_are_those_of_the_grid(serve, pictures, features):
    page = serve("pets.h5", "-o", "labels.csv", "--classes", "a,b").open()
    page.wait_for_function("() => !document.getElementById('map-note').textContent", timeout=60_000)
    box = page.locator("#map").bounding_box()
    corners = [(0.4, 0.01), (0.99, 0.01), (0.99, 0.99), (0.4, 0.99), (0.4, 0.5)]
    spots = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*spots[0])
    page.mouse.down()
    for x, y in spots[1:]:
        page.mouse.move(x, y, steps=4)
    page.mouse.up()
    page.wait_for_function(
        "all => parseInt(document.getElementById('total').textContent) < all", arg=len(features)
    )
    page.wait_for_function("() => document.activeElement.className.includes('card')")
    page.keyboard.press("Shift+ArrowRight")
    assert page.locator(".card[aria-selected=true]").count() == 2
    page.keyboard.press("1")
    is_labelled(page, 2)
    assert page.is_visible("#clear")
    # What has no label has none to take away: undo is of the labels.
    page.keyboard.press("Backspace")
    page.wait_for_function("() => document.getElementById('said').textContent.includes('no label')")
    page.keyboard.press("u")
    is_labelled(page, 0)
    assert page.faults == []


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const part = (v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgb("white");
  };
  const poor = [];
  for (const one of document.querySelectorAll("body *")) {
    const text = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || !one.checkVisibility({ visibilityProperty: true }) || one.disabled) continue;
    if (one.closest("noscript, .unseen")) continue;
    const [a, b] = [light(rgb(getComputedStyle(one).color)), light(behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${one.tagName} ${one.id || one.className}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(serve, pictures, features, scheme):
    classes = ",".join(f"class {number}" for number in range(11))
    page = serve("pets.h5", "-o", "labels.csv", "--classes", classes).open(color_scheme=scheme)
    for number, key in enumerate("1234567890", 1):
        page.keyboard.press(key)
        is_labelled(page, number)
    page.wait_for_selector(".card:not(.done) .predicted:not(:empty)")
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        for opens in ("Escape", "n", "?"):
            page.keyboard.press(opens)
            assert page.evaluate(CONTRAST) == [], (width, opens)
            page.keyboard.press("Escape")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_server_that_went_is_said_and_what_was_not_kept_shows_no_label(serve, pictures, features):
    server = serve("pets.h5", "-o", "labels.csv", "--classes", "a,b")
    page = server.open()
    page.keyboard.press("1")
    is_labelled(page, 1)
    server.kill()
    page.keyboard.press("2")
    # The queue that was asked for after the first label may fail before the second is answered.
    page.wait_for_function(
        "() => document.getElementById('said').textContent"
        ".startsWith('Not kept: The server does not answer')"
    )
    page.wait_for_function("() => !document.querySelector('.card.pending')")
    assert page.locator(".card .label:visible").all_inner_texts() == ["a"]


def test_labels_reach_the_feature_file_and_a_head_by_the_buttons(
    serve, pictures, features, tmp_path
):
    _, names, true = pictures
    server = serve("pets.h5", "-o", "labels.csv", "--classes", ",".join(names))
    page = server.open()
    for number in range(1, 13):
        page.keyboard.press("12"[true(here(page))])
        is_labelled(page, number)
    page.click("#write")
    page.wait_for_function("() => document.getElementById('said').textContent.includes('written')")
    assert "headstart extract labels.csv -o pets.h5" in page.inner_text("#said")
    page.click("#bring")
    page.wait_for_function(
        "() => /file now|nothing was/.test(document.getElementById('said').textContent)",
        timeout=60_000,
    )
    said = page.inner_text("#said")
    assert said == f"12 labels of {len(features)} images are in pets.h5 now; nothing was embedded"
    store = FeatureStore(tmp_path / "pets.h5")
    assert (store.labels >= 0).sum() == 12
    page.keyboard.press("ArrowRight")
    page.keyboard.press("12"[true(here(page))])
    is_labelled(page, 13)
    page.click("#train")
    page.wait_for_function(
        "() => document.getElementById('said').textContent.includes('saved as labels.joblib')",
        timeout=60_000,
    )
    assert page.inner_text("#said").startswith("accuracy ")
    assert (tmp_path / "labels.joblib").exists()
    assert (FeatureStore(tmp_path / "pets.h5").labels >= 0).sum() == 13
    assert page.faults == []


def test_examples_that_are_no_images_are_read_and_not_run(serve, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(30, 4))
    texts = [f"{HOSTILE[0]} {row}" for row in range(30)]
    ids = [f"t{row:02}" for row in range(30)]
    write(tmp_path / "texts.h5", vectors, ids, texts=texts, made_by={"encoder": "e"})
    running = serve("texts.h5", "--classes", "ham,spam")
    page = running.open()
    name = here(page)
    text = texts[ids.index(name)]
    assert page.inner_text(".card.here .text") == text
    assert page.inner_text("#missing") == text
    assert page.locator("#grid img").count() == 0
    page.keyboard.press("1")
    is_labelled(page, 1)
    page.fill("#search", " 29")
    page.wait_for_function("() => document.querySelectorAll('.card:not(.done)').length === 1")
    assert page.title() != "hacked"
    assert page.faults == []
    running.stop()
    lines = (tmp_path / "labels.csv").read_text("utf-8").splitlines()
    assert lines[0] == "id,label,split,text"
    assert sum(",ham," in line for line in lines) == 1
