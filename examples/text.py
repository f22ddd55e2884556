"""Texts -> vectors of BERT, GPT-2 and WordLlama -> heads, scored honestly beside TF-IDF.

    python3 -m pip install . keras-hub wordllama            in the folder of headstart
    python3 text.py reviews.csv --preset bert_base_en_uncased gpt2_base_en

The list has columns `text` and `label`; without one, paragraphs of five pages of Python's reference
are told apart. A preset is a name, which keras-hub downloads, or a folder. Without any, WordLlama,
whose vectors come with its package, stands beside TF-IDF alone. No text is ever embedded twice.
"""

import argparse
import csv
from importlib.metadata import version
from pathlib import Path
from pydoc_data.topics import topics

import joblib
import keras
import keras_hub
import numpy as np
import wordllama
from headstart.classify import compare, train
from headstart.extract import embed
from sklearn.feature_extraction.text import TfidfVectorizer

PAGES = ("customization", "debugger", "formatstrings", "string-methods", "typesmapping")
LENGTH = 128  # tokens of a text; what is longer is cut off


def pooled(backbone, tokenizer, length=LENGTH):
    """Texts -> (N, D): the mean over the tokens of each, in which padding has no part."""
    start, end, pad = tokenizer.start_token_id, tokenizer.end_token_id, tokenizer.pad_token_id
    pack = keras_hub.layers.StartEndPacker(length, start, end, pad, return_padding_mask=True)
    tokens = backbone.output  # of GPT-2; BERT has a vector of the whole text beside them
    tokens = tokens["sequence_output"] if isinstance(tokens, dict) else tokens
    mean = keras.layers.GlobalAveragePooling1D()(tokens, mask=backbone.input["padding_mask"])
    model = keras.Model(backbone.input, mean)

    def encode(texts):
        ids, real = pack(tokenizer(list(texts)))
        given = {"token_ids": ids, "padding_mask": real, "segment_ids": np.zeros(ids.shape, int)}
        return model.predict_on_batch({name: given[name] for name in backbone.input})

    return encode


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("list", nargs="?", help="a CSV file with columns text and label")
parser.add_argument("--preset", nargs="*", default=(), help="backbones of keras-hub")
asked = parser.parse_args()
pairs = [(text, page) for page in PAGES for text in topics[page].split("\n\n") if len(text) > 80]
if asked.list:
    with open(asked.list, newline="", encoding="utf-8-sig") as file:
        pairs = [(row["text"], row["label"]) for row in csv.DictReader(file)]
texts, labels = map(list, zip(*pairs, strict=True))

# An encoder takes a list of texts. Beside it stands what else its vectors depend on.
tfidf = TfidfVectorizer(max_features=2000, sublinear_tf=True).fit(texts)  # it sees no label
shipped = Path(wordllama.__file__).parent  # by itself it does not find the tokenizer there
llama = wordllama.WordLlama.load(cache_dir=shipped, disable_download=True)
encoders = {
    "tf-idf": (tfidf.transform, joblib.hash((tfidf.vocabulary_, tfidf.idf_)), {}),
    "wordllama": (llama.embed, version("wordllama"), {}),
}
for preset in asked.preset:
    backbone = keras_hub.models.Backbone.from_preset(preset)
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(preset)
    weights = joblib.hash((backbone.get_weights(), list(tokenizer.get_vocabulary())))
    encoders[Path(preset).name] = pooled(backbone, tokenizer), weights, {"length": LENGTH}
stores = [
    embed(encode, texts, f"{name}.h5", labels=labels, name=name, revision=made, settings=settings)
    for name, (encode, made, settings) in encoders.items()
]
print(compare(stores))
for store in stores:
    head = train(store)
    print(head)
    head.save(f"{store.name}.joblib")
