"""The examples of texts and sounds run as programs: backbones of keras-hub, tiny and with random
weights, and the vectors that come with WordLlama."""

import contextlib
import csv
import io
import math
import runpy
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from headstart.classify import load_head
from headstart.extract import machine
from headstart.features import FeatureStore

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TINY = {"num_layers": 2, "num_heads": 2, "hidden_dim": 64, "intermediate_dim": 128}
RATE = 16_000

needs_hub = pytest.mark.skipif(
    not machine.installed("keras_hub"), reason="keras-hub is not installed"
)
needs_both = pytest.mark.skipif(
    not all(map(machine.installed, ("keras_hub", "wordllama"))),
    reason="keras-hub or wordllama is not installed",
)

TOPICS = {
    "cooking": "boil the rice slice an onion salt pepper and butter melt in the warm pan".split(),
    "sailing": "hoist the sail tie a rope wind waves and harbour lie off the grey bow".split(),
    "gardens": "water the roses dig a bed soil seeds and sunlight grow by the old wall".split(),
}


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """Folders as keras-hub saves them: BERT, GPT-2 and Whisper, tiny, with random weights."""
    machine.import_keras()
    import keras
    import keras_hub
    from tokenizers import ByteLevelBPETokenizer

    folder = tmp_path_factory.mktemp("presets")
    keras.utils.set_random_seed(0)
    words = sorted({word for topic in TOPICS.values() for word in topic})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    save(
        folder / "tiny-bert",
        keras_hub.models.BertBackbone(len(tokens), **TINY),
        keras_hub.models.BertTokenizer(tokens, lowercase=True),
    )
    pairs = ByteLevelBPETokenizer()
    pairs.train_from_iterator(
        [" ".join(words)], 300, show_progress=False, special_tokens=["<|endoftext|>"]
    )
    pairs.save_model(str(folder))
    tokens = pairs.get_vocab()
    save(
        folder / "tiny-gpt2",
        keras_hub.models.GPT2Backbone(len(tokens), **TINY),
        keras_hub.models.GPT2Tokenizer(tokens, merges(folder / "merges.txt")),
    )
    save(
        folder / "tiny-whisper",
        keras_hub.models.WhisperBackbone(99, **TINY, max_encoder_sequence_length=200),
        keras_hub.layers.WhisperAudioConverter(max_audio_length=2),
    )
    return folder


def save(folder, *parts):
    for part in parts:
        part.save_to_preset(str(folder))


def merges(path):
    return [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module")
def run():
    """Run an example in a folder: what it defines, and what it prints."""

    def run(folder, name, *arguments):
        printed = io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.chdir(folder),
            contextlib.redirect_stdout(printed),
        ):
            patch.setattr(sys, "argv", [name, *map(str, arguments)])
            defined = runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return defined, printed.getvalue()

    return run


def write_texts(path, count=25):
    """A list of texts on three topics, of different lengths."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for topic, words in TOPICS.items():
            for _ in range(count):
                writer.writerow([" ".join(rng.choice(words, rng.integers(4, 30))), topic])
    return path


@needs_both
def test_real_vectors_tell_pages_of_the_reference_apart_far_better_than_a_guess(run, tmp_path):
    """So they do what they shall; backbones with random weights need not."""
    defined, printed = run(tmp_path, "text.py")
    dimensions = {"tf-idf": 2000, "wordllama": 256, "random-bert": 64, "random-gpt2": 64}
    for name, dimension in dimensions.items():
        store = FeatureStore(tmp_path / f"{name}.h5")
        assert len(store) == len(defined["texts"]) > 200
        assert store.features.shape[1] <= dimension
        head = load_head(tmp_path / f"{name}.joblib")
        assert head.label_names == list(defined["PAGES"])
        assert f"{name}.h5: " in printed
        if "random" not in name:
            assert head.scores.interval[0] > head.scores.baseline + 0.2


@needs_both
def test_a_text_has_the_mean_of_its_own_tokens_and_is_embedded_once(
    run, tmp_path, presets, monkeypatch
):
    """Each alone and unpadded, through the backbone itself, has the vector of the example."""
    folders = presets / "tiny-bert", presets / "tiny-gpt2"
    asked = write_texts(tmp_path / "texts.csv"), "--preset", *folders
    _, printed = run(tmp_path, "text.py", *asked)
    import keras
    import keras_hub

    for folder in folders:
        store = FeatureStore(tmp_path / f"{folder.name}.h5")
        backbone = keras_hub.models.Backbone.from_preset(str(folder))
        tokenizer = keras_hub.models.Tokenizer.from_preset(str(folder))
        for row in (0, 20, 40, 60):
            ids = np.asarray(tokenizer(store.paths[row])).tolist()
            ids = np.array([[tokenizer.start_token_id, *ids, tokenizer.end_token_id]])
            given = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
            if "segment_ids" in backbone.input:
                given["segment_ids"] = np.zeros_like(ids)
            tokens = backbone(given)
            tokens = tokens["sequence_output"] if isinstance(tokens, dict) else tokens
            mean = np.asarray(tokens)[0].mean(axis=0)
            np.testing.assert_allclose(store.features[row], mean, atol=1e-4)
        assert np.ptp(store.features[:], axis=0).max() > 0.1

    monkeypatch.setattr(keras.Model, "predict_on_batch", None)
    assert run(tmp_path, "text.py", *asked)[1] == printed


def tone(seconds, start, end, rate=RATE, seed=0):
    """(samples,) from -1 to 1: a tone whose frequency goes from one to another, in some noise."""
    time = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * (start * time + (end - start) * time**2 / (2 * seconds))
    noise = np.random.default_rng(seed).normal(0, 0.01, len(time))
    return np.clip(0.5 * np.sin(phase) + noise, -1, 1)


def write_sound(path, samples, rate=RATE, width=2, channels=1):
    """A WAV file of 1, 2, 3 or 4 bytes a sample, the same in all channels."""
    half = 2 ** (8 * width - 1)
    numbers = np.clip(np.round(samples * half), -half, half - 1).astype(np.int64)
    numbers += half * (width == 1)
    little = np.repeat(numbers, channels).astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width]
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(little.tobytes())
    return path


def write_sounds(folder, count=12):
    """Tones that rise, fall and stay, over the same frequencies, of different lengths."""
    rng = np.random.default_rng(0)
    for seed in range(count):
        low, high = rng.uniform(400, 600), rng.uniform(1500, 2000)
        seconds = rng.uniform(0.4, 1.2)
        for name, ends in {"rise": (low, high), "fall": (high, low), "stay": (low, low)}.items():
            write_sound(folder / name / f"{seed}.wav", tone(seconds, *ends, seed=seed))
    return folder


@pytest.fixture(scope="module")
def heard(run, tmp_path_factory):
    """A folder where speech.py has run, what it defines, and what it prints."""
    folder = tmp_path_factory.mktemp("heard")
    return folder, *run(folder, "speech.py", write_sounds(folder / "sounds"))


@needs_hub
def test_sounds_become_heads_and_a_mean_spectrum_cannot_tell_rising_from_falling(heard):
    folder, _, printed = heard
    for name, dimension in {"mean-spectrum": 80, "whisper": 64}.items():
        assert FeatureStore(folder / f"{name}.h5").features.shape == (36, dimension)
        head = load_head(folder / f"{name}.joblib", trust=True)
        assert head.label_names == ["fall", "rise", "stay"]
        assert f"{name}.h5: " in printed
    confusion = load_head(folder / "mean-spectrum.joblib", trust=True).scores.confusion_matrix()
    assert confusion[2, 2] >= 10
    assert 0.25 < (confusion[0, 0] + confusion[1, 1]) / 24 < 0.75


@needs_hub
def test_a_sound_has_the_mean_of_what_whisper_hears_while_it_lasts(run, tmp_path, presets):
    """As Whisper itself, decoder and all, gives it: a frame for every 320 samples."""
    sounds = write_sounds(tmp_path / "sounds", 5)
    preset = str(presets / "tiny-whisper")
    run(tmp_path, "speech.py", sounds, "--preset", preset)
    import keras_hub

    whisper = keras_hub.models.Backbone.from_preset(preset)
    mel = keras_hub.layers.WhisperAudioConverter.from_preset(preset)
    store = FeatureStore(tmp_path / "whisper.h5")
    assert len(store) == 15
    for row in (0, 7, 14):
        with wave.open(store.paths[row], "rb") as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 2**15
        nothing = np.zeros((1, 1), int)
        given = {"decoder_token_ids": nothing, "decoder_padding_mask": nothing}
        given["encoder_features"] = np.asarray(mel(samples.astype(np.float32)))[None]
        frames = np.asarray(whisper(given)["encoder_sequence_output"])[0]
        mean = frames[: math.ceil(len(samples) / 320)].mean(axis=0)
        np.testing.assert_allclose(store.features[row], mean, atol=1e-4)


@needs_hub
def test_a_sound_is_the_same_in_every_width_rate_and_number_of_channels(heard, tmp_path):
    sound = heard[1]["sound"]
    expected = tone(0.5, 440, 440)
    for width, far in {1: 1 / 64, 2: 1e-4, 3: 1e-6, 4: 1e-6}.items():
        path = write_sound(tmp_path / f"{width}.wav", expected, width=width, channels=2)
        np.testing.assert_allclose(sound(path, RATE), expected, atol=far)
    slow = write_sound(
        tmp_path / "slow.wav", 0.5 * np.sin(2 * np.pi * 440 * np.arange(4000) / 8000), 8000
    )
    heard = sound(slow, RATE)
    clean = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / RATE)
    assert len(heard) == 8000
    np.testing.assert_allclose(heard[200:-200], clean[200:-200], atol=0.01)


@needs_hub
def test_silence_after_a_sound_that_ends_early_has_no_part_in_its_mean(heard, tmp_path):
    spectrum = heard[1]["pooled"](heard[1]["mel"])
    paths = [
        write_sound(tmp_path / f"{seconds}.wav", tone(seconds, 1000, 1000))
        for seconds in (0.5, 1.0, 2.0, 3.0)
    ]
    vectors = spectrum(paths)
    assert (vectors.argmax(axis=1) == vectors[0].argmax()).all()
    assert abs(vectors - vectors[0]).max() < 0.1
