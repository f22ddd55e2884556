"""Whole processes: `headstart --help`, and `headstart train` beside what one would write by hand.

    python benchmarks/startup.py [RUNS]

Both trainings read the same file of 400 x 1,280 features and choose C by five-fold
cross-validation. Commands alternate, after one run of each that is not counted, so that a busy
machine disturbs them alike; the ratio is taken pair by pair.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BY_HAND = """
import sys
import h5py, joblib, numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

with h5py.File(sys.argv[1]) as file:
    features, labels = file["features"][:], file["labels"][:]
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
search = GridSearchCV(
    model, {"logisticregression__C": np.logspace(-5, 1, 7)}, cv=5, scoring="neg_log_loss"
)
search.fit(features, labels)
joblib.dump(search.best_estimator_, sys.argv[2])
"""


def make_features(path: Path) -> None:
    """Seal 400 rows of two overlapping clouds in a feature file, a quarter of them to test on."""
    import made

    generator = np.random.default_rng(0)
    features = generator.normal(size=(400, 1280)).astype(np.float32)
    features[::2] += 0.15
    splits = ["test" if row % 8 < 2 else "train" for row in range(400)]
    made.feature_file(path, features, ["ab"[row % 2] for row in range(400)], splits=splits)


def seconds(command: list[str]) -> float:
    """Run a whole process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def alternate(first: list[str], second: list[str], runs: int) -> list[tuple[float, float]]:
    """Time both commands in turn; the first pair warms up and is dropped."""
    return [(seconds(first), seconds(second)) for _ in range(runs + 1)][1:]


def report(name: str, other: str, pairs: list[tuple[float, float]]) -> None:
    """Print the medians and the ratio with its spread."""
    ratios = [second / first for first, second in pairs]
    print(
        f"{name}: {statistics.median(first for first, _ in pairs):.2f} s "
        f"({min(p[0] for p in pairs):.2f} to {max(p[0] for p in pairs):.2f}); "
        f"{other}: {statistics.median(second for _, second in pairs):.2f} s; "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    headstart = [sys.executable, "-m", "headstart.cli"]
    report(
        "headstart --help",
        "python -c 'import sklearn'",
        alternate([*headstart, "--help"], [sys.executable, "-c", "import sklearn"], runs),
    )
    with tempfile.TemporaryDirectory() as folder:
        features = Path(folder) / "made.h5"
        make_features(features)
        ours = [*headstart, "train", str(features), "-o", f"{folder}/ours.joblib"]
        by_hand = [sys.executable, "-c", BY_HAND, str(features), f"{folder}/by-hand.joblib"]
        report(
            "headstart train, 400 x 1,280", "GridSearchCV by hand", alternate(ours, by_hand, runs)
        )


if __name__ == "__main__":
    main()
