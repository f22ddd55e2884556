"""Sound files -> log-mel -> the encoder of Whisper -> heads, scored honestly beside mean spectra.

    python3 -m pip install . keras-hub                      in the folder of headstart
    python3 speech.py sounds --preset whisper_tiny_en

`sounds` has a folder of .wav files for each class, of any rate, width and number of channels. A
preset is a name, which keras-hub downloads, or a folder. No sound is ever embedded twice.
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
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    common = math.gcd(own, rate)
    return resample_poly(samples, rate // common, own // common).astype(np.float32)


def pooled(mel, model=None):
    """Paths -> (N, D): the mean over the time that each sound lasts, in which padding has no part.

    `mel` makes frames of log-mel, and a model, if there is one, other frames of those.
    """
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
parser.add_argument("--preset", default="whisper_tiny_en", help="a Whisper of keras-hub")
asked = parser.parse_args()
paths = sorted(asked.folder.glob("*/*.wav"))
labels = [path.parent.name for path in paths]

# Whisper writes down what it hears; only the part that listens is used.
whisper = keras_hub.models.WhisperBackbone.from_preset(asked.preset)
mel = keras_hub.layers.AudioConverter.from_preset(asked.preset)
heard = whisper.output["encoder_sequence_output"]
model = keras.Model(whisper.input["encoder_features"], heard)
names = ("num_mels", "num_fft_bins", "stride", "sampling_rate", "max_audio_length")
settings = {name: getattr(mel, name) for name in names}
encoders = {
    "mean-spectrum": (pooled(mel), "1"),
    Path(asked.preset).name: (pooled(mel, model), joblib.hash(model.get_weights())),
}
stores = [
    embed(encode, paths, f"{name}.h5", labels=labels, name=name, revision=made, settings=settings)
    for name, (encode, made) in encoders.items()
]
print(compare(stores))
for store in stores:
    head = train(store)
    print(head)
    head.save(f"{store.name}.joblib")
