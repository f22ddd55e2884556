"""The report in a real browser: nothing is loaded or run from outside; all of it can be used."""

import re
import shutil

import numpy as np
import pytest
from headstart.classify import train
from headstart.extract.pipeline import run
from headstart.pages import report
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to look at pages with")
OFFLINE = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
OFFLINE += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
HOSTILE = ["</script><img src=x onerror=window.ran=1>", "\"'><b onclick=1>", "\u05d0\u05d1 \u202ex"]
HOSTILE += ["y" * 10_000, "dog"]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=OFFLINE)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory, fill_photos, make_stub):
    """A report on images of red and blue things, of which some lie in the wrong folder."""
    folder = tmp_path_factory.mktemp("report")
    photos = fill_photos(folder / "photos", ("blue", "red"), 16)
    for number in range(4):
        (photos / "red" / f"red{number:02}.png").rename(photos / "blue" / f"odd{number}.png")
    (photos / "red" / "broken.png").write_bytes(b"no image")
    store = run(make_stub(), photos, folder / "pets.h5")
    report(train(store, folds=3), store, folder / "pets.html")
    return folder / "pets.html"


@pytest.fixture
def opened(browser):
    """A page that was opened; nothing is requested but itself, and nothing complains."""
    contexts, wrong = [], []

    def open_(file, **how):
        how = {"viewport": {"width": 1280, "height": 900}} | how
        contexts.append(browser.new_context(offline=True, **how))
        page = contexts[-1].new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on(
            "request",
            lambda asked: asked.url.startswith(("file:", "data:")) or wrong.append(asked.url),
        )
        page.goto(file.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def shown(page, selector):
    return page.locator(f"{selector} >> visible=true").count()


def test_images_are_drawn_and_nothing_is_loaded(opened, page_file):
    page = opened(page_file)
    thumb = page.locator("#mistakes .t").first
    thumb.scroll_into_view_if_needed()
    (page_file.parent / "thumb.png").write_bytes(thumb.screenshot())
    pixels = np.array(Image.open(page_file.parent / "thumb.png").convert("RGB"))
    middle = pixels[len(pixels) // 2, len(pixels) // 2].astype(int)
    assert middle[0] > middle[2] + 80  # red, though it is called blue


def test_without_a_script_a_number_opens_its_images(opened, page_file):
    page = opened(page_file, java_script_enabled=False)
    assert shown(page, ".cell") == 0
    page.get_by_role("link", name="blue taken for red: 4").click()
    assert shown(page, ".cell") == 1
    assert shown(page, ".cell .card") == 4
    page.get_by_text("Back to all classes").locator("visible=true").click()
    assert shown(page, ".cell") == 0
    assert shown(page, ".scripted") == 0
    assert "</title>" in page.content()  # a point still says what it is


def test_escape_leads_back_to_the_number(opened, page_file):
    page = opened(page_file)
    page.get_by_role("link", name="blue taken for red: 4").focus()
    page.keyboard.press("Enter")
    assert shown(page, ".cell") == 1
    page.keyboard.press("Escape")
    assert shown(page, ".cell") == 0
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(
        "blue taken"
    )


def test_classes_are_sorted_by_a_click_or_a_key(opened, page_file):
    page = opened(page_file)

    def column(number):
        return page.locator(f"#classes tbody tr > :nth-child({number})").all_inner_texts()

    assert [float(one) for one in column(4)] == sorted(float(one) for one in column(4))
    page.locator("#classes th button", has_text="class").click()
    assert column(1) == ["blue", "red"]
    page.keyboard.press("Enter")
    assert column(1) == ["red", "blue"]
    page.locator("#classes th button", has_text="images").click()
    assert [int(one) for one in column(5)] == sorted(map(int, column(5)), reverse=True)
    head = page.locator("#classes th", has_text="images")
    assert head.get_attribute("aria-sort") == "descending"


def test_a_point_of_the_map_shows_its_image_by_pointer_and_by_keys(opened, page_file):
    page = opened(page_file)
    assert shown(page, "#here .t") == 0
    points = page.locator("#points use")
    points.first.scroll_into_view_if_needed()
    points.first.hover(force=True)
    assert shown(page, "#here .t use") == 1
    said = page.locator("#here p").inner_text()
    assert re.search(r"(blue|red)/\w+\.png", said)
    page.locator("#only").focus()
    page.locator("#points").focus()
    seen = {said}
    for key in ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown") * 3:
        page.keyboard.press(key)
        seen.add(page.locator("#here p").inner_text())
    assert len(seen) > 3
    page.locator("#only").select_option("w")
    assert page.locator("#points .on").count() == page.locator("#points .w").count() > 0


def test_a_finger_opens_a_point_too(opened, page_file):
    page = opened(page_file, viewport={"width": 390, "height": 844}, has_touch=True)
    point = page.locator("#points use").first
    point.scroll_into_view_if_needed()
    point.tap(force=True)
    assert shown(page, "#here .t use") == 1


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(opened, page_file, width):
    page = opened(page_file, viewport={"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_control_has_a_name_is_reached_by_tab_and_shows_it(opened, page_file):
    page = opened(page_file)
    unnamed = page.evaluate(
        """[...document.querySelectorAll("a, button, select, summary, [tabindex]")]
        .filter(one => !(one.innerText || one.getAttribute("aria-label")
                         || one.labels?.[0]?.innerText || "").trim())
        .map(one => one.outerHTML.slice(0, 100))"""
    )
    assert unnamed == []
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                """(() => {const one = document.activeElement, style = getComputedStyle(one);
                return [one.tagName, one.id, one === document.body || style.outlineStyle]})()"""
            )
        )
        if reached[-1][0] == "BODY":
            break
    assert all(one[2] not in ("none", "") for one in reached), reached
    assert {"A", "BUTTON", "SELECT", "SUMMARY"} <= {one[0].upper() for one in reached}
    assert "points" in {one[1] for one in reached}


def test_it_is_dark_where_the_user_likes_that_and_light_on_paper(opened, page_file):
    ground = "getComputedStyle(document.body).backgroundColor"

    def light(page):
        return sum(map(int, re.findall(r"\d+", page.evaluate(ground))[:3])) > 600

    page = opened(page_file, color_scheme="dark")
    assert not light(page)
    page.emulate_media(media="print", color_scheme="dark")
    assert light(page)
    assert shown(page, "nav") == 0
    assert page.pdf().startswith(b"%PDF")
    assert light(opened(page_file, color_scheme="light"))


@pytest.mark.parametrize("classes", [5, 30], ids=["as a table", "as a picture"])
def test_hostile_names_run_nothing_and_break_nothing(opened, make_store, tmp_path, classes):
    known = [f"{HOSTILE[number % 5]}{number}" for number in range(classes)]
    codes = np.repeat(np.arange(classes), 8)
    generator = np.random.default_rng(0)
    features = generator.normal(size=(classes, 12))[codes] + generator.normal(size=(len(codes), 12))
    store = make_store(features, [known[code] for code in codes])
    report(train(store, folds=3), store, tmp_path / "odd.html")
    for width in (390, 1280):
        page = opened(tmp_path / "odd.html", viewport={"width": width, "height": 844})
        assert page.evaluate("window.ran") is None
        assert page.locator("img, script[src]").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("h2").count() >= 9
        assert "</script>" in page.locator("#classes").inner_text()
        page.locator("#points").focus()
        page.keyboard.press("ArrowRight")
        page.locator("#classes th button").first.click()
