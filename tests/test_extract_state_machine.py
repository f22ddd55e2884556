"""Any history of a folder and of runs over it agrees with a plain dictionary.

Images are added, changed, renamed, copied and deleted, all with one date; runs finish, die after
some units, or ask for other settings. Whatever happened before, a finished run leaves exactly what
the folder holds, and embeds exactly the contents that no sealed file or published unit knew. A run
that would lose more than half of those is refused, unless it was asked to.
"""

import hashlib
import io
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from headstart.extract.images.decode import decode
from headstart.extract.pipeline import run
from headstart.features import FeatureStore, ProvenanceMismatch, WrongUsage, child, verify
from headstart.features.journal import units
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from PIL import Image

PATHS = st.sampled_from([f"{label}/{name}.png" for label in "ab" for name in "pqrs"])
CONTENTS = st.integers(0, 5)


def image_bytes(content: int) -> bytes:
    """One of five images, or (5) a file that is none."""
    if content == 5:
        return b"no image"
    noise = np.random.default_rng(content).integers(0, 256, (9, 7 + content, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


class Folder(RuleBasedStateMachine):
    make_stub = None  # set by the test, from its fixture
    finished = 0  # runs that were compared with the dictionary

    def __init__(self):
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.photos, self.out = self.home / "photos", self.home / "out.h5"
        self.photos.mkdir()
        self.files: dict[str, int] = {}  # path -> content
        self.known: set[int] = set()  # contents whose vectors are sealed or published

    def teardown(self):
        shutil.rmtree(self.home)

    @rule(path=PATHS, content=CONTENTS)
    def write(self, path, content):
        (self.photos / path).parent.mkdir(exist_ok=True)
        (self.photos / path).write_bytes(image_bytes(content))
        os.utime(self.photos / path, ns=(10**18, 10**18))
        self.files[path] = content

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def delete(self, data):
        path = data.draw(st.sampled_from(sorted(self.files)))
        (self.photos / path).unlink()
        del self.files[path]

    @precondition(lambda self: self.files)
    @rule(data=st.data(), new=PATHS)
    def rename(self, data, new):
        path = data.draw(st.sampled_from(sorted(self.files)))
        (self.photos / new).parent.mkdir(exist_ok=True)
        (self.photos / path).rename(self.photos / new)
        self.files[new] = self.files.pop(path)

    def _unfinished(self) -> Path:
        return units.folder_of(self.out)

    def _good(self) -> set[int]:
        return {content for content in self.files.values() if content != 5}

    @precondition(lambda self: self._good())
    @rule()
    def run_to_the_end(self):
        stub = self.make_stub()
        good, bad = self._good(), [p for p, content in self.files.items() if content == 5]
        if lossy := 2 * len(self.known - good) > len(self.known):
            with pytest.raises(WrongUsage, match="--remove"):
                run(stub, self.photos, self.out)
        summary = run(stub, self.photos, self.out, unit_images=2, remove=lossy).summary
        assert summary.embedded == len(good - self.known)
        assert summary.reused == len(good & self.known)
        assert summary.skipped == len(bad)
        assert summary.duplicates == len(self.files) - len(bad) - len(good)
        self.known = good

        store = FeatureStore(self.out)
        assert store.paths == sorted(set(self.files) - set(bad))
        assert [one.path for one in store.skipped] == sorted(bad)
        for path, vector, label in zip(store.paths, store.features, store.labels, strict=True):
            pixels = decode(image_bytes(self.files[path]), 71).pixels
            np.testing.assert_array_equal(vector, stub.engine.embed(pixels[None])[0])
            assert store.label_names[label] == path[0]
        assert verify(self.out) == []
        assert not units.folder_of(self.out).exists()
        Folder.finished += 1

    @precondition(lambda self: self._good())
    @rule(allowed=st.integers(0, 2))
    def run_and_die(self, allowed):
        before = self.out.read_bytes() if self.out.exists() else None
        original, left = units.publish, [allowed]

        def publish(*arguments):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return original(*arguments)

        def die(*_):
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(units, "publish", publish)
            patch.setattr("headstart.extract.pipeline.seal", die)
            with pytest.raises(KeyboardInterrupt):
                run(self.make_stub(), self.photos, self.out, unit_images=2, remove=True)
        assert (self.out.read_bytes() if self.out.exists() else None) == before
        digests = {
            digest for unit in units.verified(units.folder_of(self.out)) for digest, _ in unit.keys
        }
        if before is not None:
            digests |= {digest.tobytes() for digest in FeatureStore(self.out).digests}
        self.known = {c for c in range(5) if hashlib.sha256(image_bytes(c)).digest() in digests}

    @precondition(lambda self: self.files and (self.out.exists() or self._unfinished().exists()))
    @rule(size=st.sampled_from([72, 96]))
    def run_with_other_settings(self, size):
        with pytest.raises(ProvenanceMismatch, match=f"{size}"):
            run(self.make_stub(size=size), self.photos, self.out)

    @invariant()
    def no_litter(self):
        assert not list(self.home.glob(".*"))


@pytest.mark.parametrize("histories", [25, pytest.param(60, marks=pytest.mark.sweep)])
def test_every_history_agrees_with_a_dictionary(histories, make_stub, monkeypatch):
    # The child process that seals has tests of its own; here it would cost half a second a run.
    monkeypatch.setattr(child, "call", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(child, "prepare", lambda _: None)
    Folder.make_stub = make_stub
    Folder.finished = 0
    machine = Folder.TestCase
    machine.settings = settings(
        max_examples=histories,
        stateful_step_count=20,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    machine().runTest()
    assert Folder.finished > histories
