"""Every command and snippet of the README and of the site runs, page by page, as a reader types it.

A page has a folder and a session of Python, and runs from its first block to its last. Replaced
are: the download of weights of ImageNet, by random weights of the same backbone; the pixels of
Xception and MobileNetV2, where nothing else is said, by fewer; the digits of the demo, by the first
few hundred of them; and the port 8000, by a free one. What `pip install` is told is not installed
but looked up in pyproject.toml; what follows it on its line, as in the README's two commands, is
run by .ci/run. CONTRIBUTING.md is not among the pages: its commands are steps of .ci/run.
"""

import contextlib
import dataclasses
import http.cookiejar
import importlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from headstart.extract import machine
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "benchmarks/README.md"]

BLOCK = re.compile(
    r"^(?: *<!-- (?P<marker>[^\n]*) -->\n+)?"
    r"(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
RUN = ("sh", "python")
UNTIL_CTRL_C, UNTIL_THE_END = "runs until Ctrl-C", "runs until the end of the page"
NOT_RUN = {
    "needs a cluster": 4,
    "needs a bucket": 3,
    "needs pretrained weights": 4,
}
"""The only reasons not to run a block, which all are other machines; and how many may have it."""
HEARS_CTRL_C = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's & switches it off
os.execvp(sys.argv[1], sys.argv[1:])
"""
DIGITS = 220
COLOURS = {"cat": (30, 60, 200), "dog": (200, 40, 30)}


@dataclasses.dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    marker: str

    @property
    def where(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def reason(self):
        """Why it is not run, if it is not."""
        return self.marker.removeprefix("not run: ") if self.marker.startswith("not run: ") else ""


def blocks(page):
    text = page.read_text("utf-8")
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("text"))
        lines = found["text"].splitlines()
        plain = "\n".join(one.removeprefix(found["indent"]) for one in lines)
        yield Block(page, line, found["language"], plain, found["marker"] or "")


BLOCKS = {page: list(blocks(page)) for page in PAGES}
ALL = [block for page in PAGES for block in BLOCKS[page]]
RUNNING = [page for page in PAGES if any(block.language in RUN for block in BLOCKS[page])]


def name_of(page):
    return str(page.relative_to(ROOT))


# ---------------------------------------------------------------------- where a page runs


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Backbones with random weights in place of ImageNet's, each built once for all pages."""
    from headstart.extract.backbones import build as backbones
    from headstart.extract.backbones.architectures import ARCHITECTURES
    from headstart.extract.backbones.weights import WeightsSource

    build, base, built = backbones.build, backbones.base, {}

    def random(request):
        return dataclasses.replace(request, weights=WeightsSource("random"))

    def build_offline(request):
        request = random(request)
        if request not in built:
            built[request] = build(request)
        return built[request]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADSTART_CACHE", str(tmp_path_factory.mktemp("cache of the pages")))
        for name, size in {"Xception": 71, "MobileNetV2": 96}.items():
            patch.setitem(ARCHITECTURES, name, dataclasses.replace(ARCHITECTURES[name], size=size))
        patch.setattr(backbones, "build", build_offline)
        patch.setattr(backbones, "base", lambda keras, request: base(keras, random(request)))
        yield


@pytest.fixture
def fewer_digits(monkeypatch):
    from sklearn import datasets

    digits = datasets.load_digits()
    first = {name: digits[name][:DIGITS] for name in ("data", "target", "images")}
    monkeypatch.setattr(datasets, "load_digits", lambda: type(digits)(**{**digits, **first}))


@pytest.fixture
def folder(tmp_path, monkeypatch, write_image):
    """What every page finds: photographs, a list of them, the examples; and two commands."""
    here = tmp_path / "page"
    for number, source in enumerate(("photos", "new-photos", "other-pets")):
        for seed, (name, colour) in enumerate(COLOURS.items(), 10 * number):
            for index in range(6):
                path = here / source / name / f"{name}{index:02}.png"
                write_image(path, 100 * seed + index, colour)
    rows = [f"{path.relative_to(here)},{path.parent.name}" for path in here.glob("photos/*/*")]
    (here / "list.csv").write_text("\n".join(["path,label", *sorted(rows), ""]))
    for name in COLOURS:
        Image.open(here / "photos" / name / f"{name}00.png").save(here / f"{name}.jpg")
    shutil.copytree(ROOT / "examples", here / "examples")

    commands = tmp_path / "commands"
    commands.mkdir()
    for name, how in {"python3": "", "headstart": "-m headstart.cli"}.items():
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {how} "$@"\n')
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    (commands / ".curlrc").write_text("fail\n")  # an answer that is an error is one
    monkeypatch.setenv("CURL_HOME", str(commands))
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    monkeypatch.chdir(here)
    return here


# ---------------------------------------------------------------------- what a page's blocks do


def commands_of(text):
    """The lines of a block of `sh`: (how each is run, itself)."""
    pieces = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        words = shlex.split(line, comments=True)
        outside = re.sub(r"'[^']*'|\"[^\"]*\"| #.*", "", line)
        if words[:3] == ["python3", "-m", "pip"]:
            pieces.append(("pip", line))
        elif words[:1] == ["headstart"] and not re.search(r"^ |[|&;<>$`*?()]", outside):
            pieces.append(("headstart", line))
        elif pieces and pieces[-1][0] == "bash":
            pieces[-1] = ("bash", f"{pieces[-1][1]}\n{line}")
        elif words:
            pieces.append(("bash", line))
    return pieces


def requirements():
    """What pyproject.toml names, as it has to be written to be installed."""
    extras = PROJECT["optional-dependencies"]
    known = set(PROJECT["dependencies"]).union(*extras.values())
    for where in (".", "headstart"):
        known |= {where} | {f"{where}[{extra}]" for extra in extras}
    bare = {re.split(r"[<>=\[]", one)[0] for one in known if not one.startswith("headstart[")}
    return known | bare


class Reader:
    """Who types a page's blocks, one after the other."""

    def __init__(self, cli, folder):
        self.cli, self.folder = cli, folder
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = str(listening.getsockname()[1])
        self.session = {"__name__": "__main__"}
        self.left_open = contextlib.ExitStack()

    def run(self, block):
        if block.language == "python":
            text = "\n" * block.line + block.text
            exec(compile(text, block.where, "exec"), self.session)
            return
        commands = commands_of(re.sub(r"\b8000\b", self.port, block.text))
        serves = commands.pop()[1] if block.marker else None
        for how, line in commands:
            getattr(self, how)(line, block.where)
        if serves:
            self.serve(serves, block)

    def headstart(self, line, where):
        done = self.cli(*shlex.split(line, comments=True)[1:])
        assert done.code == 0, (where, line, done.err)

    def bash(self, script, where):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (where, script, done.stdout, done.stderr)

    def pip(self, line, where):
        words = shlex.split(line.partition(" && ")[0], comments=True)
        what = [word for word in words[3:] if not word.startswith("-")]
        assert what[0] == "install", where
        for other in set(what[1:]) - requirements():
            assert other in (ROOT / ".ci" / "run").read_text("utf-8").split(), (where, other)
            if not machine.installed(other.replace("-", "_")):
                pytest.skip(f"{other}, which no extra has, is not installed")

    def serve(self, line, block):
        """Start what serves until Ctrl-C, and go on when it has said where."""
        words = shlex.split(line, comments=True)
        errors = self.folder.parent / "errors.txt"
        server = self.left_open.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", HEARS_CTRL_C, *words],
                stdout=subprocess.PIPE, stderr=errors.open("w"), text=True,
            )
        )  # fmt: skip
        self.left_open.callback(server.kill)
        said = []
        while not (said and "http://" in said[-1]):
            said.append(server.stdout.readline())
            assert said[-1], (block.where, said, errors.read_text())
        (address,) = re.findall(r"http://\S+", said[-1])

        def end():
            server.send_signal(signal.SIGINT)
            out, _ = server.communicate(timeout=60)
            assert server.returncode == 0, (block.where, out, errors.read_text())

        if block.marker == UNTIL_THE_END:
            self.left_open.callback(end)
        else:
            if "?token=" in address:
                label_an_image(address)
            end()


def label_an_image(address):
    """Be at the labelling page for a moment."""
    cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    browser = urllib.request.build_opener(cookies)
    browser.open(address).read()
    origin = address.partition("/?")[0]
    headers = {"Origin": origin, "X-Headstart": "1", "Content-Type": "application/json"}
    labels = json.dumps({"labels": [[0, [0]], [1, [1]]], "queue": "all"}).encode()
    browser.open(urllib.request.Request(f"{origin}/api/label", labels, headers)).read()


@pytest.mark.skipif(os.name == "nt", reason="the pages' commands are typed into bash")
@pytest.mark.parametrize("page", RUNNING, ids=name_of)
def test_every_command_and_snippet_of_the_page_runs(page, cli, folder, offline, fewer_digits):
    reader = Reader(cli, folder)
    with reader.left_open:
        for block in BLOCKS[page]:
            if block.language in RUN and not block.reason:
                reader.run(block)


# ---------------------------------------------------------------------- what pages may not do


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_names_its_language_and_every_marker_is_known(page):
    assert page.read_text("utf-8").count("```") == 2 * len(BLOCKS[page])
    for block in BLOCKS[page]:
        assert block.language, block.where
        if block.marker:
            known = (UNTIL_CTRL_C, UNTIL_THE_END, *(f"not run: {reason}" for reason in NOT_RUN))
            assert block.marker in known, block.where
            assert block.language in RUN, block.where


def test_only_what_needs_other_machines_is_not_run():
    count = Counter(block.reason for block in ALL if block.reason)
    assert count.keys() <= NOT_RUN.keys()
    assert all(count[reason] <= most for reason, most in NOT_RUN.items()), count
    assert sum(block.language in RUN and not block.reason for block in ALL) > 3 * count.total()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_list_begins_after_an_empty_line(page):
    """Without one Markdown takes it for a part of the paragraph."""
    text = BLOCK.sub("", page.read_text("utf-8"))
    item = re.compile(r"^ *(?:[-*]|\d+\.) ")
    for before, line in zip(text.splitlines(), text.splitlines()[1:], strict=False):
        if item.match(line) and before.strip():
            assert item.match(before) or before.startswith(" "), line


def test_the_readme_is_read_in_two_minutes():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_every_link_of_the_readme_leads_to_a_file():
    """The links of the other pages are followed when the site is built."""
    text = BLOCK.sub("", (ROOT / "README.md").read_text("utf-8"))
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(links) > 20
    assert not [link for link in links if not (ROOT / link).is_file()]


@pytest.mark.parametrize("folder", ["features", "extract", "classify", "apply", "pages"])
def test_the_reference_has_every_name_of_the_package(folder):
    package = importlib.import_module(f"headstart.{folder}")
    page = (ROOT / "docs" / "reference" / f"{folder}.md").read_text("utf-8")
    written = re.findall(rf"^::: headstart\.{folder}\.(\S+)$", page, re.MULTILINE)
    # A function in a module of its own name is written with it, or the page would show the module.
    parts = [name.rpartition(".") for name in written]
    assert sorted(name for home, _, name in parts if home in ("", name)) == sorted(package.__all__)
