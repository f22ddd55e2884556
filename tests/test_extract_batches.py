"""What every engine does with a batch, shown with one that needs no library."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from headstart.extract import engines
from headstart.extract.backbones.request import Request
from headstart.extract.embedding import Embedding
from headstart.extract.engines.engine import Engine, Tuning, out_of_memory
from headstart.features import BackboneError, WrongUsage


class Small(Engine):
    """Gives each image its sum, and has no memory for more than `most` images at once."""

    name = "small"

    def __init__(self, most, batch, error=MemoryError):
        self.most, self.error, self.compiled = most, error, []
        super().__init__(SimpleNamespace(size=4, dimension=1), batch)

    def environment(self):
        return {}

    def _compile(self, batch):
        self.compiled.append(batch)

        def run(images):
            assert images.shape == (batch, 4, 4, 3)
            if batch > self.most:
                raise self.error
            return images.sum(axis=(1, 2, 3), dtype=np.float32)[:, None]

        return run


SMALL = np.random.default_rng(2).integers(0, 256, (11, 4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4 bytes"),
        RuntimeError("std::bad_alloc"),
        type("ResourceExhaustedError", (Exception,), {})("OOM when allocating tensor"),
    ],
    ids=["Python", "JAX", "C++", "TensorFlow"],
)
def test_a_batch_that_does_not_fit_is_halved_until_it_does_with_a_line_each(error, caplog):
    engine = Small(most=2, batch=8, error=error)
    with caplog.at_level(logging.WARNING, "headstart"):
        vectors = engine.embed(SMALL)
    assert vectors[:, 0].tolist() == SMALL.sum(axis=(1, 2, 3)).tolist()
    assert engine.batch == 2
    assert engine.compiled == [8, 4, 2]
    assert [record.args for record in caplog.records] == [(8, 4, 4), (4, 2, 2)]


def test_no_memory_for_a_single_image_and_other_errors_end_the_run():
    with pytest.raises(BackboneError, match="not enough memory to embed a single image"):
        Small(most=0, batch=2).embed(SMALL)
    with pytest.raises(RuntimeError, match="a bug"):
        Small(most=0, batch=2, error=RuntimeError("a bug")).embed(SMALL)
    assert not out_of_memory(ValueError("shapes do not match"))


def test_a_batch_too_large_to_be_compiled_is_halved_as_well():
    class Large(Small):
        def _compile(self, batch):
            if batch > self.most:
                raise MemoryError
            return super()._compile(batch)

    assert Large(most=2, batch=8).batch == 2


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9])
def test_a_short_batch_is_filled_up_and_nothing_is_compiled_again(count):
    engine = Small(most=8, batch=4)
    assert engine.embed(SMALL[:count])[:, 0].tolist() == SMALL[:count].sum(axis=(1, 2, 3)).tolist()
    assert engine.submit(SMALL[:count]).result().shape == (count, 1)
    assert engine.compiled == [4]


def test_a_module_and_a_row_are_all_that_an_engine_needs(monkeypatch):
    def load(request, tuning):
        backbone = SimpleNamespace(weights_digest="0" * 64, size=4, dimension=1)
        return backbone, Small(most=8, batch=tuning.batch or 8)

    monkeypatch.setitem(engines.TABLE, "small", engines.Row(lambda: True, ("f32",), load))
    request = Request.checked(weights="random")
    vectors = Embedding(request, "small", Tuning(batch=3)).embed(SMALL)
    assert vectors[:, 0].tolist() == SMALL.sum(axis=(1, 2, 3)).tolist()
    with pytest.raises(WrongUsage, match="precision 'bf16': the small engine computes in f32"):
        engines.require_usable("small", Tuning(), "bf16")
    with pytest.raises(WrongUsage, match="streams are a setting of the openvino engine"):
        Embedding(request, "small", Tuning(streams=2))
