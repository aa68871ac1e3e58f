"""Intervals match published values and cover; the test holds its level and finds real gaps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from compliance.errors import InputError
from compliance.fairness.inference import (
    DEALT,
    FISHER,
    MOST_EXACT,
    clopper_pearson,
    contrast,
    holm,
    wilson,
)

# Newcombe, Statistics in Medicine 17 (1998), 857-872, Table I: methods 3 and 5.
PUBLISHED = [
    (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20, (0.0000, 0.1611), (0.0000, 0.1684)),
    (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
]


@pytest.mark.parametrize(("hits", "cases", "score", "exact"), PUBLISHED)
def test_intervals_are_newcombes(hits, cases, score, exact):
    for found, expected in ((wilson(hits, cases), score), (clopper_pearson(hits, cases), exact)):
        assert found.value == hits / cases
        assert (found.low, found.high) == pytest.approx(expected, abs=5e-5)


@given(st.integers(1, 500), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_intervals_are_scipys(cases, data, confidence):
    hits = data.draw(st.integers(0, cases))
    test = stats.binomtest(hits, cases)
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        found, theirs = ours(hits, cases, confidence), test.proportion_ci(confidence, method)
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
        assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize("cases", [20, 50, 100, 300])
def test_coverage_is_what_is_promised(cases):
    intervals = {f: [f(k, cases) for k in range(cases + 1)] for f in (wilson, clopper_pearson)}
    shares = np.linspace(0.02, 0.5, 97)
    covered = {
        f: [
            sum(stats.binom.pmf(k, cases, p) for k, i in enumerate(found) if i.low <= p <= i.high)
            for p in shares
        ]
        for f, found in intervals.items()
    }
    assert min(covered[clopper_pearson]) >= 0.95 - 1e-12
    assert np.mean(covered[wilson]) >= 0.945


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
def test_no_cases_give_no_interval(interval):
    found = interval(0, 0)
    assert (found.value, found.low, found.high) == (None, None, None)


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
@pytest.mark.parametrize(
    ("given_", "message"),
    [((3, 2), "3 hits among 2"), ((-1, 2), "-1 hits"), ((1, 2, 1.0), "between 0 and 1")],
)
def test_shares_that_cannot_be_are_refused(interval, given_, message):
    with pytest.raises(InputError, match=message):
        interval(*given_)


def test_two_groups_use_fishers_exact_test():
    tea = contrast([3, 1], [4, 4])
    assert tea.method == FISHER
    assert tea.p == pytest.approx(34 / 70)


def shuffled_share(hits, cases, times=2_000):
    """Return how often rows shuffled among the groups show as great a contrast, the long way."""
    groups = np.repeat(np.arange(len(cases)), cases)
    rows = np.concatenate([np.arange(n) < k for k, n in zip(hits, cases, strict=True)])
    shuffles = np.random.default_rng(5).permuted(np.tile(rows, (times, 1)), axis=1)
    first, second = np.triu_indices(len(cases), 1)

    def greatest(outcomes):
        rates = np.stack([outcomes[:, groups == g].mean(axis=1) for g in range(len(cases))])
        width = np.sqrt(1 / cases[first] + 1 / cases[second])[:, None]
        return (np.abs(rates[first] - rates[second]) / width).max(axis=0)

    return np.mean(greatest(shuffles) >= greatest(rows[None]) * (1 - 1e-9))


@given(st.lists(st.integers(1, 60), min_size=3, max_size=6), st.data())
@settings(max_examples=25)
def test_dealing_from_the_margins_is_shuffling_the_rows(cases, data):
    cases = np.array(cases)
    hits = np.array([data.draw(st.integers(0, int(n))) for n in cases])
    found = contrast(hits, cases)
    assert found.method == DEALT
    # Two Monte-Carlo errors: the long way's, and that of stopping after 100 deals as extreme.
    expected = shuffled_share(hits, cases)
    assert found.p == pytest.approx(expected, abs=0.05 + 0.35 * expected)


def test_the_test_holds_its_level_where_expected_counts_are_far_below_five():
    rng = np.random.default_rng(11)
    cases = np.array([30, 30, 35, 40, 300])
    ps = np.array([contrast(rng.binomial(cases, 0.04), cases).p for _ in range(1_000)])
    for level in (0.01, 0.05, 0.1):
        error = 3 * np.sqrt(level * (1 - level) / len(ps))
        assert np.mean(ps <= level) <= level + error


def test_a_certain_difference_within_the_norm_convicts_no_small_group():
    """Two large groups differ for certain, by little; a third, small one differs by chance."""
    hits, cases = np.array([30_000, 31_500, 7]), np.array([100_000, 100_000, 35])
    assert contrast(hits, cases).p < 0.001
    assert contrast(hits, cases, lambda low, high: low < 0.8 * high).p > 0.05


def test_no_pair_beyond_the_norm_is_no_evidence():
    never = lambda low, high: low > high  # noqa: E731  a norm that nothing exceeds
    assert contrast([1, 30], [30, 30], never).p == 1
    assert contrast([1, 30, 9], [30, 30, 30], never).p == 1


@pytest.mark.parametrize("hits", [[0, 0], [5, 5], [0, 0, 0], [5, 5, 5]])
def test_all_or_nothing_is_no_evidence(hits):
    assert contrast(hits, [5] * len(hits)).p == 1


def test_the_same_counts_always_give_the_same_p():
    counts = [12, 20, 31], [60, 61, 70]
    assert contrast(*counts) == contrast(*counts)


def test_more_rows_than_can_be_dealt_use_the_normal_limit():
    cases = np.full(4, MOST_EXACT)
    offsets = np.array([0, 0, 0, 3.63]) * np.sqrt(cases * 0.25)
    hits = cases // 2 + offsets.astype(np.int64)
    # 3.63 is the upper 5 % point of the studentised range of 4 groups.
    assert contrast(hits, cases).p == pytest.approx(0.05, abs=0.01)


def test_a_thousand_groups_are_tested():
    rng = np.random.default_rng(3)
    cases = rng.integers(30, 90, 1_000)
    hits = rng.binomial(cases, 0.3)
    assert contrast(hits, cases).p > 0.001
    hits[0] = cases[0]
    assert contrast(hits, cases).p < 0.01


@pytest.mark.parametrize(
    ("hits", "cases"), [([1], [2]), ([3, 1], [2, 2]), ([-1, 1], [2, 2]), ([1, 1], [2, 2, 2])]
)
def test_counts_that_cannot_be_are_refused(hits, cases):
    with pytest.raises(InputError, match="two groups or more"):
        contrast(hits, cases)


def test_an_empty_group_is_refused():
    with pytest.raises(InputError, match="at least one case"):
        contrast([0, 1], [0, 2])


def test_holm_is_rs():
    """The value of p.adjust(c(.01, .04, .03, .005), "holm") in R."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
