"""From a folder of one's own photographs to a model that runs anywhere, cell by cell.

Open it as a notebook (Jupytext, VS Code and PyCharm know the `# %%` lines), or run it whole:

    python3 -m pip install ".[onnx]"          in the folder of headstart
    python3 own_folder.py --photos photos --new new-photos

`photos` has a folder per class, `new-photos` images to be told apart. Everything that is made goes
into the working folder; run it again, and nothing is embedded twice.
"""

# %% What to work on. In a notebook, change the defaults.
import argparse
from collections import Counter

from headstart.apply import export, predict
from headstart.classify import load_head, train, train_all
from headstart.extract import extract

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--photos", default="photos")
parser.add_argument("--new", default="new-photos")
parser.add_argument("--backbone", default="Xception")
parser.add_argument("--weights", default="imagenet")
parser.add_argument("--size", type=int, help="pixels a side; by default the backbone's own")
asked, _ = parser.parse_known_args()  # a notebook has arguments of its own

# %% Embed every image once. This is the slow part, and goes on where it was interrupted.
store = extract(
    asked.photos, "own.h5", backbone=asked.backbone, weights=asked.weights, size=asked.size
)
print(f"{len(store.paths)} images, {store.features.shape[1]} numbers each")
print(Counter(store.label_names[code] for code in store.labels if code >= 0))
for skipped in store.skipped:
    print(f"left out: {skipped.path}: {skipped.reason}")

# %% Train a head on the vectors, in seconds. Scores come from images that it has not seen: those in
# photos/test, or each fold of the cross-validation in turn.
head = train(store, "logistic")
head.save("own.joblib")
low, high = head.scores.interval
print(f"{head.scores.accuracy:.1%} right ({low:.1%} to {high:.1%}) by {head.scores.basis}")
print(f"{head.scores.baseline:.1%} right if one always guesses {head.majority}")
for note in head.scores.notes:
    print(note)

# %% What it gets wrong with the most confidence. Often it is the label that is wrong.
for one in head.scores.mistakes[:10]:
    print(f"{one['path']}: {one['label']}, predicted {one['predicted']} ({one['confidence']:.0%})")

# %% Would another kind of head do better? Differences come with paired 95% intervals.
_, standings = train_all(store)
for standing in standings:
    behind, low, high = standing.behind
    print(
        f"{standing.name}: {standing.accuracy:.1%} right, "
        f"{behind:.1%} ({low:.1%} to {high:.1%}) behind the best"
    )

# %% Predict new images. What is unlike all training images is marked as unfamiliar. The embeddings
# are kept in own-new.h5, so that another head predicts the same images in no time.
predictions = predict(head, asked.new, out="new.csv", features="own-new.h5")
print(predictions)
for row in predictions.confidences.argsort()[:10]:  # the least sure; those skipped come last
    print(
        predictions.paths[row],
        predictions.skipped[row] or predictions.labels[row],
        f"{predictions.confidences[row]:.1%}",
        "unfamiliar" if predictions.unfamiliar[row] else "",
    )

# %% One model of backbone and head, for where headstart is not installed. serve_onnx.py serves it.
export(head, "own.onnx")

# %% The head is plain scikit-learn, and knows what it was trained on.
head = load_head("own.joblib")
print(head.pipeline)
print(head.provenance)
