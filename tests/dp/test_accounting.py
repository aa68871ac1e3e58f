import logging
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.dp import accounting
from compliance.dp.accounting import best_bound, noise_for
from compliance.errors import InputError, MissingExtra

MNIST = {"noise_multiplier": 1.1, "sample_rate": 256 / 60_000, "delta": 1e-5}
BEYOND_THE_TRUTH = 1.0770  # what the Gaussian approximation claims at 3,516 steps: too little


@pytest.mark.parametrize(
    ("steps", "rdp", "best"), [(3_516, 1.2813, 1.134), (14_062, 2.5966, 2.382)]
)
def test_the_reference_values_are_met(steps, rdp, best):
    run = (MNIST["sample_rate"], steps, MNIST["delta"])
    assert accounting._rdp(1.1, *run) == pytest.approx(rdp, abs=5e-5)
    found = best_bound(steps=steps, **MNIST)
    assert found.epsilon == pytest.approx(best, abs=5e-4)
    assert found.accountant == "PLD"


def test_the_gaussian_approximation_is_never_reported():
    assert best_bound(steps=3_516, **MNIST).epsilon > BEYOND_THE_TRUTH + 0.05


def test_the_best_bound_is_no_worse_than_the_prv_accountant_of_opacus():
    from opacus.accountants import PRVAccountant

    prv = PRVAccountant()
    prv.history = [(1.1, 256 / 60_000, 3_516)]
    assert prv.get_epsilon(1e-5) == pytest.approx(1.144, abs=5e-4)
    assert best_bound(steps=3_516, **MNIST).epsilon <= prv.get_epsilon(1e-5)


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8, 1e-11, 1e-14])
@pytest.mark.parametrize(("noise", "steps"), [(5.0, 30), (0.7, 1), (40.0, 2_000), (100.0, 100_000)])
def test_without_sampling_no_bound_undercuts_the_exact_figure(noise, steps, delta):
    from dp_accounting import get_epsilon_gaussian

    exact = get_epsilon_gaussian(noise / steps**0.5, delta)
    found = best_bound(noise_multiplier=noise, sample_rate=1.0, steps=steps, delta=delta)
    assert exact <= found.epsilon <= exact * 1.15 + 0.01


def test_digits_lost_at_tiny_rates_do_not_become_an_epsilon_of_zero(caplog):
    """dp-accounting answers 0 when a divergence comes out negative by rounding."""
    caplog.set_level(logging.WARNING, "absl")
    run = {"noise_multiplier": 936.0, "sample_rate": 0.01, "steps": 10}
    assert best_bound(delta=1e-12, **run).epsilon > 0
    assert not caplog.records


@pytest.mark.parametrize(
    ("noise", "rate", "steps"), [(1.1, 0.004, 3_516), (2.0, 0.5, 100), (5.0, 1.0, 30)]
)
def test_our_own_series_agrees_with_dp_accounting(noise, rate, steps):
    theirs = accounting._rdp(noise, rate, steps, 1e-5)
    assert theirs <= accounting._rdp_series(noise, rate, steps, 1e-5) <= theirs * 1.01


def test_no_step_costs_nothing_and_each_further_step_costs_more():
    costs = [best_bound(steps=steps, **MNIST).epsilon for steps in (0, 1, 10, 100, 1_000)]
    assert costs[0] == 0
    assert costs == sorted(costs)


def test_where_pld_fails_the_renyi_bound_stands(monkeypatch):
    class Broken:
        def from_gaussian_mechanism(self, *_, **__):
            raise ValueError("no grid")

    run = (1.1, 256 / 60_000, 3_516, 1e-5)
    accounting._pld.cache_clear()
    monkeypatch.setattr("dp_accounting.pld.privacy_loss_distribution", Broken())
    found = best_bound(steps=3_516, **MNIST)
    accounting._pld.cache_clear()
    assert (found.accountant, found.epsilon) == ("RDP", accounting._rdp(*run))


@pytest.mark.slow
@settings(max_examples=12)
@given(
    epsilon=st.floats(0.05, 20),
    rate=st.sampled_from([0.001, 0.02, 0.3, 1.0]),
    steps=st.integers(1, 400),
    delta=st.sampled_from([1e-4, 1e-6, 1e-9]),
)
def test_the_noise_found_never_overspends_and_a_hundredth_less_would(epsilon, rate, steps, delta):
    run = {"sample_rate": rate, "steps": steps, "delta": delta}
    noise = noise_for(epsilon=epsilon, **run)
    assert best_bound(noise_multiplier=noise, **run).epsilon <= epsilon
    if noise > accounting.NOISE[0]:
        assert best_bound(noise_multiplier=noise * 0.99, **run).epsilon > epsilon * 0.999


def test_an_epsilon_below_what_renyi_can_prove_is_still_reached():
    run = {"sample_rate": 0.01, "steps": 10, "delta": 1e-5}
    noise = noise_for(epsilon=1e-5, **run)
    assert best_bound(noise_multiplier=noise, **run).epsilon <= 1e-5


def test_an_epsilon_out_of_reach_says_what_to_change():
    with pytest.raises(InputError, match="train fewer epochs"):
        noise_for(epsilon=1e-9, sample_rate=1.0, steps=10**6, delta=1e-12)


def test_finding_the_noise_takes_seconds_at_most():
    noise_for(epsilon=1.0, sample_rate=0.01, steps=300, delta=1e-5)  # imports
    began = time.process_time()
    noise_for(epsilon=1.1, sample_rate=256 / 60_000, steps=3_516, delta=1e-5)
    assert time.process_time() - began < 10  # about 0.7 s on an idle core


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise_multiplier": 0.0},
        {"noise_multiplier": float("nan")},
        {"noise_multiplier": float("inf")},
        {"sample_rate": 0.0},
        {"sample_rate": 1.01},
        {"sample_rate": float("nan")},
        {"steps": -1},
        {"steps": 1.5},
        {"steps": True},
        {"delta": 0.0},
        {"delta": 1.0},
        {"delta": float("nan")},
    ],
)
def test_figures_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        best_bound(**({"steps": 10} | MNIST | wrong))


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf")])
def test_a_target_out_of_range_is_refused(epsilon):
    with pytest.raises(InputError, match="epsilon"):
        noise_for(epsilon=epsilon, sample_rate=0.01, steps=10, delta=1e-5)


def test_without_steps_there_is_no_noise_to_find():
    with pytest.raises(InputError, match="steps"):
        noise_for(epsilon=1.0, sample_rate=0.01, steps=0, delta=1e-5)


def test_a_missing_library_names_the_extra(monkeypatch):
    accounting._library.cache_clear()
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(MissingExtra, match=r"compliance-toolkit\[dp\]"):
        best_bound(steps=10, **MNIST)
    accounting._library.cache_clear()
