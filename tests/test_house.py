"""Rules of the house: who may import whom, and what must not be loaded."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from headstart.extract import machine

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "features": set(),
    "extract": {"features"},
    "classify": {"features"},
    "apply": {"features", "extract", "classify"},
    "pages": {"features", "extract", "classify", "apply"},
    "cli": {"features", "extract", "classify", "apply", "pages"},
}
HEAVY = {"tensorflow", "keras", "openvino", "jax", "torch", "onnx", "onnxruntime", "tf2onnx"}
HEAVY |= {"matplotlib", "dask", "ray", "fsspec", "starlette", "uvicorn", "jinja2", "pandas"}
HEAVY |= {"tensorflow_datasets", "datasets", "pyarrow", "array_record", "pillow_heif", "aiohttp"}
HEAVY |= {"s3fs", "botocore", "aiobotocore", "nncf", "distributed", "cloudpickle"}
MOST_LINES, MOST_ENTRIES = 300, 14

FILES = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))]


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imports(path):
    """(name, whether it happens at once) of each import in a file; ours without ``headstart``."""
    tree = ast.parse(path.read_text())
    package = path.relative_to(ROOT).parent.parts
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    later = {id(inner) for function in functions for inner in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in later) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*base, *([node.module] if node.module else [])])
            source = source.removeprefix("headstart.")
            for alias in node.names:
                deeper = f"{source}.{alias.name}".lstrip(".")
                yield deeper if deeper in MODULES else source, id(node) not in later


GRAPH = {
    name: {one for one, _ in imports(path) if one in MODULES} for name, path in MODULES.items()
}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_run_one_way_and_heavy_ones_wait_inside_functions(path):
    folder = path.relative_to(ROOT).parts[0]
    for name, at_once in imports(path):
        room = name.split(".")[0]
        if name in MODULES and room != folder:
            assert room in MAY_IMPORT[folder], f"{folder} imports {name}"
        if room in HEAVY:
            assert not at_once, f"{name} is imported when {name_of(path)} is"
            servers = name_of(path).startswith("features.durable.remote.")
            assert servers or folder in ("extract", "pages"), f"{folder} imports {name}"


def test_no_module_imports_itself_through_others():
    """Not even inside a folder, nor inside functions."""
    settled, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in settled:
            path.append(name)
            for other in sorted(GRAPH[name] - {name}):
                visit(other)
            settled.add(path.pop())

    for name in sorted(GRAPH):
        visit(name)
    assert settled == GRAPH.keys()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_has_a_docstring_and_no_more_than_300_lines(path):
    text = path.read_text()
    assert text.count("\n") <= MOST_LINES
    assert ast.get_docstring(ast.parse(text))


def test_no_folder_is_too_full():
    for folder in {path.parent for path in FILES}:
        entries = [
            one for one in folder.iterdir() if one.suffix == ".py" or (one / "__init__.py").exists()
        ]
        assert len(entries) <= MOST_ENTRIES, folder


def run_without_tensorflow(folder, *commands):
    """Run commands in one process where importing TensorFlow or Keras fails; return what it had
    loaded at the end."""
    program = f"""
import json, sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
from headstart.cli import main
for command in json.loads({json.dumps(json.dumps(commands))}):
    try:
        main(command)
    except SystemExit as error:
        assert not error.code, (command, error.code)
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_everything_after_extraction_works_with_tensorflow_unimportable(
    photos, stub, tmp_path, fill_photos, make_stub
):
    from headstart.extract.pipeline import run

    run(stub, photos, tmp_path / "pets.h5")
    run(make_stub(), fill_photos(tmp_path / "more", count=14), tmp_path / "more.h5")
    run_without_tensorflow(
        tmp_path,
        ["info", "pets.h5"],
        ["train", "pets.h5", "-o", "pets.joblib"],
        ["train", "pets.h5", "-o", "all.skops", "--head", "all", "--plots", "plots"],
        ["info", "all.skops"],
        ["compare", "pets.h5", "pets.h5", "--pixels", "photos"],
        ["info", "pets.joblib"],
        ["evaluate", "pets.joblib", "more.h5"],
        ["predict", "pets.joblib", "more.h5", "-o", "out.csv"],
        # Nothing new in the folder: the backbone is not needed.
        ["extract", "photos", "-o", "pets.h5", "--weights", "random", "--size", "71"],
    )
    assert (tmp_path / "out.csv").exists()


@pytest.mark.skipif(not machine.installed("openvino"), reason="openvino is not installed")
def test_new_images_need_no_tensorflow_where_the_graph_is_in_the_cache(tmp_path, cli, fill_photos):
    fill_photos(tmp_path / "photos")
    settings = ["--backbone", "MobileNetV2", "--size", "32", "--weights", "random"]
    features, head = tmp_path / "pets.h5", tmp_path / "pets.joblib"
    assert cli("extract", tmp_path / "photos", "-o", features, *settings).code == 0
    assert cli("train", features, "-o", head).code == 0
    fill_photos(tmp_path / "photos", count=11)
    loaded = run_without_tensorflow(
        tmp_path,
        ["extract", "photos", "-o", "pets.h5", *settings],
        ["extract", "photos", "-o", "bf16.h5", *settings, "--precision", "bf16"],
        ["predict", "pets.joblib", "photos", "-o", "out.csv"],
    )
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 1 + 22
    assert not [name for name in loaded if name.startswith("openvino_telemetry.")]


def test_help_loads_nothing_of_weight(tmp_path):
    commands = ["extract", "info", "predict", "train"]
    loaded = run_without_tensorflow(tmp_path, ["--help"], *([one, "--help"] for one in commands))
    heavy = {"numpy", "h5py", "sklearn", "scipy", "PIL", "joblib", "platformdirs", "tqdm"}
    assert not loaded & heavy


def test_python_minus_m_runs_the_same_commands(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "headstart.cli", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert done.stdout.startswith("headstart ")


def test_every_name_of_classify_is_found_where_it_is_looked_for():
    from headstart import classify

    homes = [name for names in classify._HOMES.values() for name in names]
    assert sorted(homes) == sorted(classify.__all__)
    for name in homes:
        assert getattr(classify, name).__name__ == name
