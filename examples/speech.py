"""Sound files -> log-mel -> the encoder of Whisper -> heads, scored honestly beside mean spectra.

    python3 -m pip install . keras-hub                      in the folder of headstart
    python3 speech.py sounds --preset whisper_tiny_en

`sounds` has a folder of .wav files for each class, of any rate, width and number of channels. A
preset is a name, which keras-hub downloads, or a folder; without one Whisper is tiny, with random
weights and a window of two seconds. No sound is ever embedded twice.
"""

import argparse
import math
from pathlib import Path

import joblib
import keras
import keras_hub
import numpy as np
from headstart.classify import compare, train
from headstart.extract import embed
from scipy.io import wavfile
from scipy.signal import resample_poly


def sound(path, rate):
    """A WAV file -> (samples,) float32 from -1 to 1, its channels in one, at a rate in Hz."""
    own, samples = wavfile.read(path)
    if samples.dtype.kind in "ui":  # 8 bits have no sign, and silence in their middle
        half = 2.0 ** (8 * samples.itemsize - 1)
        samples = samples / half - (samples.dtype.kind == "u")
    samples = samples.reshape(len(samples), -1).mean(axis=1)
    common = math.gcd(own, rate)
    return resample_poly(samples, rate // common, own // common).astype(np.float32)


def pooled(mel, model=None):
    """Paths -> (N, D): the mean of the frames while a sound lasts; padding has no part in it."""
    whole = mel.num_samples  # of the window: what is shorter is padded, what is longer cut off

    def encode(paths):
        sounds = [sound(path, mel.sampling_rate)[:whole] for path in paths]
        padded = np.stack([np.pad(one, (0, whole - len(one))) for one in sounds])
        frames = np.asarray(mel(padded) if model is None else model.predict_on_batch(mel(padded)))
        lasting = np.array([len(one) / whole for one in sounds]) * frames.shape[1]
        real = np.arange(frames.shape[1]) < np.maximum(1, np.ceil(lasting))[:, None]
        return (frames * real[..., None]).sum(axis=1) / real.sum(axis=1, keepdims=True)

    return encode


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", type=Path, help="with a folder of .wav files for each class")
parser.add_argument("--preset", help="a Whisper of keras-hub")
asked = parser.parse_args()
paths = sorted(asked.folder.glob("*/*.wav"))
if asked.preset:
    whisper = keras_hub.models.WhisperBackbone.from_preset(asked.preset)
    mel = keras_hub.layers.AudioConverter.from_preset(asked.preset)
else:
    keras.utils.set_random_seed(0)
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 64, "intermediate_dim": 128}
    whisper = keras_hub.models.WhisperBackbone(2, **sizes, max_encoder_sequence_length=200)
    mel = keras_hub.layers.WhisperAudioConverter(max_audio_length=2)
# Whisper writes down what it hears; only the part that hears is used.
model = keras.Model(whisper.input["encoder_features"], whisper.output["encoder_sequence_output"])
weights = joblib.hash(model.get_weights())
said = {"seconds": mel.max_audio_length, "bands": mel.num_mels}  # what else changes a vector
given = {"labels": [path.parent.name for path in paths], "settings": said}
stores = [
    embed(pooled(mel), paths, "mean-spectrum.h5", name="mean-spectrum", revision="1", **given),
    embed(pooled(mel, model), paths, "whisper.h5", name="whisper", revision=weights, **given),
]

for one in compare(stores).standings:
    behind = "behind the best by {:.1%} ({:.1%} to {:.1%})".format(*one.behind)
    print(f"{one.name}: {one.accuracy:.1%} right, {behind}")
for store in stores:
    print(head := train(store))
    head.save(Path(store.name).with_suffix(".joblib"))
