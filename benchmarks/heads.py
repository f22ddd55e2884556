"""Training heads beside plain scikit-learn.

    python benchmarks/heads.py [--repeats 3] [--only NAME] [--json FILE]

Whole processes, from the feature file to the saved head, on made-up embeddings of 2,048 numbers
(`made.embeddings`). Both sides of a case alternate, and ratios are taken round by round: median
(lowest to highest). Log loss and accuracy are those of further images that neither side was given.

few         200 images, 2 classes: `headstart train`, search and nested 5-fold scores included,
            beside GridSearchCV over ten values of C, which gives no honest score
two         9,305 images, 2 classes: the same
hundred     25,000 images, 100 classes: `headstart train` with a search and 5,000 more images to
            test on, beside GridSearchCV; one round only, since the latter takes long
hundred-cv  25,000 images, 100 classes: `headstart train` with a search and nested 5-fold scores
svm-rbf     4,000 images, 10 classes: the fit of `--head svm-rbf` with SVC's default parameters and
            1,000 predictions, beside StandardScaler and SVC; how many of the predictions agree
rbf-search  the same 4,000: `headstart train --head svm-rbf` with search, calibration, nested scores

`python benchmarks/heads.py --table FILE` prints the table of a result again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import made
import numpy as np
from extraction import options, spread

LOAD = """
import sys
import h5py, joblib, numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

with h5py.File(sys.argv[1]) as file:
    features, labels = file["features"][:], file["label_names"][:].astype(str)[file["labels"][:]]
    training = file["splits"][:] != 3
features, labels = features[training], labels[training]
"""

GRID_SEARCH = (
    LOAD
    + """
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
search = GridSearchCV(model, {"logisticregression__C": np.logspace(-4, 4, 10)}, cv=5)
joblib.dump({"pipeline": search.fit(features, labels)}, sys.argv[2])
"""
)

PLAIN_SVC = (
    LOAD
    + """
from sklearn.svm import SVC

model = make_pipeline(StandardScaler(), SVC()).fit(features, labels)
joblib.dump({"pipeline": model}, sys.argv[2])
np.save(sys.argv[2] + ".npy", model.predict(np.load(sys.argv[3])).astype(str))
"""
)

OUR_SVC = (
    LOAD
    + """
from sklearn.pipeline import Pipeline
from headstart.classify.heads.rbf import Rbf
from headstart.classify.heads.recipe import Task

names, codes = np.unique(labels, return_inverse=True)
task = Task(features, codes, names, balanced=False, seed=0)
model = Pipeline(Rbf().fit({"C": 1.0, "gamma": 1 / features.shape[1]}, task))
joblib.dump({"pipeline": model}, sys.argv[2])
np.save(sys.argv[2] + ".npy", model.predict(np.load(sys.argv[3])).astype(str))
"""
)

OURS = [sys.executable, "-m", "headstart.cli", "train"]
RBF = ["--head", "svm-rbf"]
# name: training images, test images in the file, classes, how far apart, ours, theirs
CASES = {
    "few": (200, 0, 2, 1.0, OURS, GRID_SEARCH),
    "two": (9305, 0, 2, 1.0, OURS, GRID_SEARCH),
    "hundred": (25000, 5000, 100, 1.5, OURS, GRID_SEARCH),
    "hundred-cv": (25000, 0, 100, 1.5, OURS, None),
    "svm-rbf": (4000, 0, 10, 1.5, OUR_SVC, PLAIN_SVC),
    "rbf-search": (4000, 0, 10, 1.5, [*OURS, *RBF], None),
}
_FURTHER = 1000
_ONCE = {"hundred"}


def whole_process(program: list[str]) -> tuple[float, float]:
    """Seconds, and the most memory that it held, in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, program)
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def program(what: str | list[str], features: Path, out: Path, further: Path) -> list[str]:
    if isinstance(what, str):
        return [sys.executable, "-c", what, str(features), str(out), str(further)]
    return [*what[:4], str(features), "-o", str(out), *what[4:]]


def make(name: str, folder: Path) -> float:
    """The feature file of a case, and further images; its matrix in MB."""
    training, test, classes, apart, _, _ = CASES[name]
    kept = training + test
    vectors, codes = made.embeddings(kept + _FURTHER, classes, apart=apart)
    labels = np.array([f"class {code:02}" for code in range(classes)])[codes]
    splits = ["none" if row < training else "test" for row in range(kept)]
    made.feature_file(folder / f"{name}.h5", vectors[:kept], labels[:kept].tolist(), splits=splits)
    np.save(folder / f"{name}.npy", vectors[kept:])
    np.save(folder / "truth.npy", labels[kept:])
    return vectors[:kept].nbytes / 2**20


def judge(name: str, side: str, folder: Path) -> dict[str, float]:
    """Accuracy and log loss on the further images."""
    import joblib
    from sklearn.metrics import log_loss

    model = joblib.load(folder / f"{side}.joblib")["pipeline"]
    vectors, truth = np.load(folder / f"{name}.npy"), np.load(folder / "truth.npy")
    found = {"accuracy": round(float(np.mean(model.predict(vectors) == truth)), 4)}
    if hasattr(model, "predict_proba"):
        probabilities = model.predict_proba(vectors.astype(np.float64))
        found["log_loss"] = round(float(log_loss(truth, probabilities)), 4)
    return found


def case(name: str, folder: Path, repeats: int) -> dict:
    """Seconds, memory, log loss and accuracy of both sides."""
    training, test, classes, _, ours, theirs = CASES[name]

    def elsewhere(work: Callable, *arguments: object) -> Any:
        # A process inherits the peak memory of the one that starts it, so this one stays small.
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            return process.submit(work, *arguments).result()

    matrix = elsewhere(make, name, folder)
    result: dict = {"name": name, "images": training + test, "classes": classes}
    sides = {"ours": ours} | ({"theirs": theirs} if theirs else {})
    for round_ in range(1 if name in _ONCE else repeats):
        for side, what in sides.items():
            files = folder / f"{name}.h5", folder / f"{side}.joblib", folder / f"{name}.npy"
            seconds, memory = whole_process(program(what, *files))
            one = result.setdefault(side, {"seconds": [], "memory": []})
            one["seconds"].append(round(seconds, 2))
            one["memory"].append(round(memory))
            print(f"{name}, round {round_ + 1}: {side} {seconds:.2f} s", file=sys.stderr)
    result["memory / matrix"] = round(max(result["ours"]["memory"]) / matrix, 2)
    for side in sides:
        result[side] |= elsewhere(judge, name, side, folder)
    if ours is OUR_SVC:
        both = [np.load(folder / f"{side}.joblib.npy") for side in sides]
        result["agree"] = float(np.mean(both[0] == both[1]))
    for path in folder.iterdir():
        path.unlink()
    return result


TITLES = {
    "few": ("search, nested scores", "`GridSearchCV`, 10 values of C"),
    "two": ("search, nested scores", "`GridSearchCV`, 10 values of C"),
    "hundred": ("search, test split", "`GridSearchCV`, 10 values of C"),
    "hundred-cv": ("search, nested scores", ""),
    "svm-rbf": ("`svm-rbf`, one fit", "`SVC()`"),
    "rbf-search": ("`svm-rbf`, search, calibration, nested scores", ""),
}


def table(result: dict) -> str:
    """Markdown."""
    head = (
        "| images x 2,048 | classes | headstart | seconds | log loss | scikit-learn by hand | "
        "seconds | log loss | ratio |"
    )
    lines = [head, "| ---: | ---: | --- | ---: | ---: | --- | ---: | ---: | ---: |"]
    for one in result["cases"]:
        ours, theirs = one["ours"], one.get("theirs")
        what, other = TITLES[one["name"]]
        cells = [f"{one['images']:,}", str(one["classes"]), what, spread(ours["seconds"], 1)]
        cells += [_loss(ours), other]
        if theirs:
            ratios = [b / a for a, b in zip(ours["seconds"], theirs["seconds"], strict=True)]
            cells += [spread(theirs["seconds"], 1), _loss(theirs), spread(ratios, 1)]
        else:
            cells += ["", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _loss(side: dict) -> str:
    return f"{side['log_loss']:.3f}" if "log_loss" in side else ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=CASES)
    asked = options(parser, table)
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("scikit-learn", "numpy", "scipy")},
        "cases": [],
    }
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["HEADSTART_STATE"] = temporary + "/state"
        folder = Path(temporary) / "work"
        folder.mkdir()
        for name in [asked.only] if asked.only else CASES:
            result["cases"].append(case(name, folder, asked.repeats))
            print(json.dumps(result["cases"][-1]), file=sys.stderr)
            if asked.json:
                asked.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
