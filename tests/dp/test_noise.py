import math
import os
from types import SimpleNamespace

import pytest
import torch

from compliance.dp.noise import Source


def test_uniform_draws_are_uniform():
    drawn = Source().uniform(200_000)
    assert drawn.dtype == torch.float64
    assert drawn.min() > 0
    assert drawn.max() <= 1
    counts = torch.histc(drawn, bins=20, min=0, max=1)
    chi_squared = float(((counts - 10_000) ** 2 / 10_000).sum())
    assert chi_squared < 60  # 19 degrees of freedom: exceeded once in 10^5 runs


def test_normal_draws_are_normal():
    from scipy.stats import kstest

    drawn = Source().normal(200_001)
    assert len(drawn) == 200_001
    assert kstest(drawn.numpy(), "norm").pvalue > 1e-5


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_any_number_of_draws_can_be_had(count):
    assert len(Source().normal(count)) == len(Source().uniform(count)) == count


def test_noise_has_the_reference_s_shape_and_type_and_the_deviation_asked_for():
    reference = torch.zeros(300, 200, dtype=torch.float32)
    noise = Source().noise_like(reference, 3.0)
    assert (noise.shape, noise.dtype) == (reference.shape, reference.dtype)
    assert float(noise.std()) == pytest.approx(3.0, rel=0.02)


def test_two_sources_and_two_draws_differ():
    source = Source()
    draws = [source.uniform(8), source.uniform(8), Source().uniform(8)]
    assert len({tuple(draw.tolist()) for draw in draws}) == 3


def test_torch_s_seed_has_no_say():
    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        drawn.append(Source().normal(4))
    assert not torch.equal(*drawn)


def test_a_forked_process_gets_a_stream_of_its_own(monkeypatch):
    source = Source()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    stream = source._stream
    source.uniform(1)
    assert source._stream is not stream


def test_the_logarithm_is_never_taken_of_zero():
    assert math.isfinite(math.log(2.0**-53))
    source = Source()
    source._stream = SimpleNamespace(update=lambda data: bytes(len(data)))
    assert source.normal(4).isfinite().all()
