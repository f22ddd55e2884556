"""The programs that benchmarks/extraction.py runs, each in a process of its own."""

TUTORIAL = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import h5py, keras, numpy as np
photos, name, weights, size, out = sys.argv[1:]
size = int(size)
data = keras.utils.image_dataset_from_directory(
    photos, image_size=(size, size), batch_size=32, shuffle=False, verbose=False
)
base = getattr(keras.applications, name)(
    include_top=False, weights=weights, input_shape=(size, size, 3), pooling="avg"
)
module = {"Xception": keras.applications.xception, "MobileNetV2": keras.applications.mobilenet_v2}
inputs = keras.Input((size, size, 3))
model = keras.Model(inputs, base(module[name].preprocess_input(inputs), training=False))
features = model.predict(data, verbose=0)
labels = np.concatenate([label for _, label in data])
with h5py.File(out, "w") as file:
    file["features"], file["labels"] = features, labels
    file["paths"] = data.file_paths
"""

ONNX_BY_HAND = """
import sys
from pathlib import Path
import h5py, numpy as np, onnxruntime
from PIL import Image
photos, graph, size, out = sys.argv[1:]
size = int(size)
paths = sorted(Path(photos).rglob("*.jpg"))
session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
features = []
for start in range(0, len(paths), 32):
    images = [
        Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        for path in paths[start : start + 32]
    ]
    features.append(session.run(None, {"images": np.stack([np.asarray(one) for one in images])})[0])
with h5py.File(out, "w") as file:
    file["features"], file["paths"] = np.concatenate(features), [str(path) for path in paths]
    file["labels"] = [path.parent.name for path in paths]
"""

TORCH = """
import sys
from pathlib import Path
import h5py, numpy as np, timm, torch
from PIL import Image
photos, name, size, precision, out = sys.argv[1:]
size = int(size)
names = {"Xception": "legacy_xception", "MobileNetV2": "mobilenetv2_100"}
model = timm.create_model(names[name], pretrained=False, num_classes=0).eval()
model = model.to(memory_format=torch.channels_last)
class Photographs(torch.utils.data.Dataset):
    paths = sorted(Path(photos).rglob("*.jpg"))
    def __len__(self):
        return len(self.paths)
    def __getitem__(self, index):
        image = Image.open(self.paths[index]).convert("RGB")
        image = image.resize((size, size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1
workers = max(1, torch.get_num_threads() // 2)
data = torch.utils.data.DataLoader(Photographs(), batch_size=32, num_workers=workers)
bf16 = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
with torch.inference_mode(), bf16:
    found = [model(x.contiguous(memory_format=torch.channels_last)).float() for x in data]
with h5py.File(out, "w") as file:
    file["features"], file["paths"] = torch.cat(found).numpy(), list(map(str, Photographs.paths))
    file["labels"] = [path.parent.name for path in Photographs.paths]
"""

ALONE = """
import collections, json, sys, time
from concurrent.futures import ThreadPoolExecutor
import joblib
import numpy as np
from headstart.extract import scan
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
from headstart.extract.work.readahead import look_ahead
photos, name, weights, size, seconds, quantised = sys.argv[1:]
rates = {}
for key, runs in {
    "f32": ("openvino", "f32", weights),
    "bf16": ("openvino", "bf16", weights),
    "int8": ("openvino", "int8", quantised),
    "onnxruntime": ("onnxruntime", "f32", weights),
}.items():
    request = Request.checked(backbone=name, weights=runs[2], size=int(size), precision=runs[1])
    embedding = Embedding(request, runs[0])
    arrays = np.random.default_rng(0).integers(0, 256, (64, int(size), int(size), 3), np.uint8)
    engine = embedding.engine
    batches = [arrays[k : k + engine.batch] for k in range(0, 64 - engine.batch + 1, engine.batch)]
    calls = collections.deque(engine.submit(batch) for batch in batches[:8])  # it never runs dry
    def one_call():
        count = len(calls.popleft().result())
        calls.append(engine.submit(batches[len(batches) // 2]))
        return count

    for _ in range(8):
        one_call()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < float(seconds):
        done += one_call()
    rates["ceiling " + key] = done / (time.perf_counter() - started)
images = scan(photos)
threads = ThreadPoolExecutor(joblib.cpu_count())
started = time.perf_counter()
done = sum(1 for _ in look_ahead(images, None, request, threads))
rates["decode"] = done / (time.perf_counter() - started)
print(json.dumps(rates))
"""

PREPARE = """
import sys
import keras
from headstart.extract.backbones.build import build
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
from headstart.extract.engines.onnxruntime import GRAPHS
name, size, weights, whole = sys.argv[1:]
if whole == "new":
    graph = build(Request.checked(backbone=name, weights="random", size=int(size))).graph
    inner = next(layer for layer in graph.layers if layer.name.startswith(name.lower()))
    inner.save_weights(weights)
request = Request.checked(backbone=name, weights=weights, size=int(size))
for engine in ("openvino", "onnxruntime"):
    Embedding(request, engine).provenance  # converts it
print(GRAPHS.cached(request).graph)
operations = 0
for layer in getattr(keras.applications, name)(
    include_top=False, weights=None, input_shape=(int(size), int(size), 3)
).layers:
    for variable in layer.weights:
        if "kernel" in variable.name and len(variable.shape) == 4:
            height, width = layer.output.shape[1:3]
            operations += 2 * int(height * width) * variable.numpy().size
print(operations)
"""
