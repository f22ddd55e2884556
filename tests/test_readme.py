"""The README's two commands stand first, and tables of figures are those of the benchmarks.

That all commands and snippets run is tested in test_docs.py.
"""

import importlib.util
import json
import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "name", ["beyond_memory", "clusters", "conversion", "extraction", "heads", "prediction"]
)
def test_the_figures_of_one_page_are_those_of_the_committed_benchmark(name, monkeypatch):
    root = Path(__file__).resolve().parents[1]
    monkeypatch.syspath_prepend(root / "benchmarks")
    spec = importlib.util.spec_from_file_location(name, root / "benchmarks" / f"{name}.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    (results,) = sorted((root / "benchmarks" / "results").glob(f"{name.replace('_', '-')}-*.json"))
    table = benchmark.table(json.loads(results.read_text()))
    pages = [root / "benchmarks" / "README.md", *(root / "docs").glob("*.md")]
    assert sum(table in page.read_text(encoding="utf-8") for page in pages) == 1


def test_the_two_commands_are_one_line_each_and_stand_first():
    first, second = [block.strip() for language, block in BLOCKS if language == "sh"][:2]
    assert re.fullmatch(r"python3 -m pip install \. && headstart demo", first)
    assert re.fullmatch(r'python3 -m pip install "\.\[test\]" && python3 -m pytest', second)
