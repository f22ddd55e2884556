"""Texts -> vectors of BERT, GPT-2 and WordLlama -> heads, scored honestly beside TF-IDF.

    python3 -m pip install . keras-hub wordllama            in the folder of headstart
    python3 text.py reviews.csv --preset bert_base_en_uncased gpt2_base_en

The list has columns `text` and `label`; without one, paragraphs of five pages of Python's reference
are told apart. Presets are names, which keras-hub downloads, or folders; without any, BERT and
GPT-2 are tiny, with random weights, and show what that is worth. No text is ever embedded twice.
"""

import argparse
import csv
import json
from importlib.metadata import version
from pathlib import Path
from pydoc_data.topics import topics

import keras
import keras_hub.models as hub
import wordllama
from headstart.classify import compare, train
from headstart.extract import embed
from sklearn.feature_extraction.text import TfidfVectorizer
from tokenizers import ByteLevelBPETokenizer

LENGTH = 128  # tokens of a text; what is longer is cut off
PAGES = ("customization", "debugger", "formatstrings", "string-methods", "typesmapping")
TINY = {"num_layers": 2, "num_heads": 2, "hidden_dim": 64, "intermediate_dim": 128}


def named(presets):
    """Backbones with weights that have learned, each with what makes tokens of a text."""
    for preset in presets:
        backbone = hub.Backbone.from_preset(preset)
        writes = isinstance(backbone, hub.GPT2Backbone)
        kind = hub.CausalLMPreprocessor if writes else hub.TextClassifierPreprocessor
        yield Path(preset).name, backbone, kind.from_preset(preset, sequence_length=LENGTH)


def tiny(texts, words):
    """The same with random weights, and tokens that are words, or pieces of words, of the texts."""
    keras.utils.set_random_seed(0)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    bert = hub.BertTextClassifierPreprocessor(hub.BertTokenizer(tokens, lowercase=True), LENGTH)
    yield "random-bert", hub.BertBackbone(len(tokens), **TINY), bert
    pairs = ByteLevelBPETokenizer()
    pairs.train_from_iterator(texts, 1000, show_progress=False, special_tokens=["<|endoftext|>"])
    tokens, merges = pairs.get_vocab(), json.loads(pairs.to_str())["model"]["merges"]
    gpt2 = hub.GPT2Tokenizer(tokens, [" ".join(pair) for pair in merges])
    preprocessor = hub.GPT2CausalLMPreprocessor(gpt2, LENGTH)
    yield "random-gpt2", hub.GPT2Backbone(len(tokens), **TINY), preprocessor


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("list", nargs="?", help="a CSV file with columns text and label")
parser.add_argument("--preset", nargs="*", help="backbones of keras-hub")
asked = parser.parse_args()
pairs = [(text, page) for page in PAGES for text in topics[page].split("\n\n") if len(text) > 80]
if asked.list:
    with open(asked.list, newline="", encoding="utf-8-sig") as file:
        pairs = [(row["text"], row["label"]) for row in csv.DictReader(file)]
texts, labels = zip(*pairs, strict=True)

tfidf = TfidfVectorizer(max_features=2000, sublinear_tf=True).fit(texts)  # it sees no label
stores = [embed(tfidf, texts, "tf-idf.h5", labels=labels)]
here = Path(wordllama.__file__).parent  # where its tokenizer is, and it does not look by itself
llama = wordllama.WordLlama.load(cache_dir=here, disable_download=True)
said = {"name": "wordllama", "revision": version("wordllama")}  # a function does not say it
stores.append(embed(llama.embed, texts, "wordllama.h5", labels=labels, **said))
backbones = named(asked.preset) if asked.preset else tiny(texts, sorted(tfidf.vocabulary_))
for name, backbone, preprocessor in backbones:
    # The mean over the tokens of a text, without those that only fill it up to LENGTH.
    stores.append(embed(backbone, texts, f"{name}.h5", labels=labels, preprocessor=preprocessor))

for one in compare(stores).standings:
    behind = "behind the best by {:.1%} ({:.1%} to {:.1%})".format(*one.behind)
    print(f"{one.name}: {one.accuracy:.1%} right, {behind}")
for store in stores:
    print(head := train(store))
    head.save(Path(store.name).with_suffix(".joblib"))
