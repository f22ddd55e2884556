"""What is published: one version, the Pythons that are tested, and files that others parse."""

import fnmatch
import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml  # Dask brings it

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
PACKAGES = {
    folder.split("/")[0] for folder in PYPROJECT["tool"]["setuptools"]["package-dir"].values()
}
PYTHONS = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(
    set((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    - {ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"}
)


def parsed(path):
    # YAML 1.1 takes the key `on` for a truth value.
    found = yaml.safe_load(path.read_text("utf-8"))
    return {("on" if key is True else key): value for key, value in found.items()}


def test_no_module_has_a_version_of_its_own():
    copies = [
        path.relative_to(ROOT)
        for folder in PACKAGES
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^__version__\b", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert copies == []
    assert "version" not in parsed(ROOT / "CITATION.cff")
    assert "dynamic" not in PROJECT


def test_the_newest_release_in_the_changelog_is_the_version():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    version, date = re.fullmatch(r"(\S+) - (\d{4}-\d\d-\d\d)", headings[1]).groups()
    assert version == PROJECT["version"]
    assert date


def test_what_is_installed_says_the_version_of_the_project(cli):
    try:
        installed = importlib.metadata.version("headstart")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("headstart is imported from a checkout and not installed")
    assert installed == PROJECT["version"]
    assert cli("--version").out.strip() == f"headstart {installed}"


def test_the_pythons_that_are_claimed_are_those_that_are_tested():
    assert sorted(PYTHONS, key=lambda one: int(one.split(".")[1])) == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{PYTHONS[0].replace('.', '')}"
    matrix = parsed(ROOT / ".github/workflows/tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS
    assert matrix["os"] == ["ubuntu", "macos", "windows"]
    text = (ROOT / "docs" / "platforms.md").read_text("utf-8")
    assert f"Python {', '.join(PYTHONS[:-1])} and {PYTHONS[-1]}" in text


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_parses_and_names_each_action_by_its_major_version(path):
    workflow = parsed(path)
    assert workflow["on"]
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        used = [step["uses"] for step in job.get("steps", ()) if "uses" in step]
        assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@(v\d+|release/v\d+)", one) for one in used)
        scripts = re.findall(
            r"\.ci/\w+", "\n".join(str(step.get("run")) for step in job.get("steps", ()))
        )
        assert all((ROOT / script).stat().st_mode & 0o100 for script in scripts)
        assert "uses" in job or used


def test_a_release_is_published_for_a_tag_after_the_tests_and_without_a_token():
    release = parsed(ROOT / ".github/workflows/release.yml")
    jobs = release["jobs"]
    assert release["on"] == {"push": {"tags": ["v*"]}}
    assert "workflow_call" in parsed(ROOT / jobs["tests"]["uses"])["on"]
    assert (jobs["build"]["needs"], jobs["publish"]["needs"]) == ("tests", "build")
    assert jobs["publish"]["environment"] == "pypi"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert [name for name, job in jobs.items() if "id-token" in str(job)] == ["publish"]
    assert not any("secrets." in path.read_text("utf-8") for path in WORKFLOWS)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_for_issues_asks_what_the_machine_is(path, cli):
    form = parsed(path)
    assert {"name", "description", "body"} <= form.keys()
    fields = [one for one in form["body"] if one["type"] != "markdown"]
    assert len({one["id"] for one in fields}) == len(fields)
    assert all(one["attributes"]["label"] for one in fields)
    (asked,) = [one["attributes"] for one in fields if one["id"] == "system"]
    assert "`headstart info --system`" in asked["label"]
    assert "--system" in cli("info", "--help").out


def test_all_that_a_checkout_has_is_in_the_sdist():
    """By its list; `.ci/build` compares the sdist itself."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout of git")
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [
        line.split()
        for line in (ROOT / "MANIFEST.in").read_text("utf-8").splitlines()
        if not line.startswith("#")
    ]
    grafted = {name for command, *names in lines if command == "graft" for name in names}
    included = [name for command, *names in lines if command == "include" for name in names]
    included += [PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "MANIFEST.in"]
    for path in tracked.stdout.split("\0")[:-1]:
        folder, slash, _ = path.partition("/")
        if slash:
            assert folder in grafted | PACKAGES, path
        else:
            assert any(fnmatch.fnmatch(path, one) for one in included), path


def test_the_citation_is_one():
    """As its schema 1.2.0 requires, and what GitHub shows."""
    citation = parsed(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == [{"name": "headstart contributors"}]


def test_the_image_is_built_from_the_checkout_and_runs_the_demo_without_rights():
    text = (ROOT / "Dockerfile").read_text("utf-8")
    stages = re.findall(r"^FROM python:(\S+)-slim", text, re.MULTILINE)
    assert set(stages) <= set(PYTHONS)
    last = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER (\w+)$", last, re.MULTILINE)[1] != "root"
    assert last.strip().endswith('ENTRYPOINT ["headstart"]\nCMD ["demo"]')
    kept_out = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    needed = [*PACKAGES, PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml"]
    for name in needed:
        assert not any(fnmatch.fnmatch(name, one) for one in kept_out), name


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md"])
def test_what_a_page_of_the_root_names_is_there(name):
    text = (ROOT / name).read_text("utf-8")
    named = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    named += re.findall(
        r"`((?:tests|docs|extract|classify|features|cli|pages|apply|\.ci)/[^\s`]*)`", text
    )
    assert named
    for one in named:
        assert (ROOT / one).exists(), one
