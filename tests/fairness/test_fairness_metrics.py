"""Count metrics are fairlearn's to the last bit, and undefined is never zero."""

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as fairlearn
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_score

from compliance.errors import InputError
from compliance.fairness.metrics import DISPARITIES, METRICS, RATES, metric
from compliance.fairness.tally import Tally

THEIRS = {name: getattr(fairlearn, name) for name in RATES if hasattr(fairlearn, name)}
THEIRS |= {"accuracy": accuracy_score, "precision": precision_score}
NAMED = [
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "equalized_odds_ratio",
    "equal_opportunity_difference",
    "equal_opportunity_ratio",
]
DERIVED = [name for name in DISPARITIES if name not in NAMED]

COLUMNS = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, [[2], [2], [3]], (3, 60))
)


def counted(columns):
    return Tally.from_values(columns[0], columns[1], {"g": columns[2]}, 1, negative=0)


@given(COLUMNS)
@settings(max_examples=20)
@pytest.mark.parametrize("name", THEIRS)
def test_rates_by_group_and_overall_are_fairlearns(name, columns):
    ours, tally = RATES[name], counted(columns)
    by_group = ours.by_group(tally)
    assume(None not in by_group.values())
    frame = fairlearn.MetricFrame(
        metrics=THEIRS[name], y_true=columns[0], y_pred=columns[1], sensitive_features=columns[2]
    )
    assert by_group == {(str(g),): value for g, value in frame.by_group.items()}
    assert ours(tally) == frame.overall


@given(COLUMNS)
@settings(max_examples=20)
@pytest.mark.parametrize("name", NAMED + DERIVED)
def test_gaps_are_fairlearns(name, columns):
    tally = counted(columns)
    ours = METRICS[name](tally)
    rates = [r.by_group(tally).values() for r in DISPARITIES[name].rates]
    assume(ours is not None and all(None not in values for values in rates))
    theirs = getattr(fairlearn, name)(columns[0], columns[1], sensitive_features=columns[2])
    assert ours == theirs


def test_every_derived_gap_is_one_that_fairlearn_names():
    assert DERIVED
    assert all(hasattr(fairlearn, name) for name in DERIVED)


def test_the_count_is_the_number_of_rows():
    assert METRICS["count"](counted(np.array([[1, 0], [1, 0], [0, 1]]))) == 2


def test_a_rate_over_no_cases_is_undefined_where_fairlearn_says_zero():
    label, prediction, group = [0, 0, 1, 1], [1, 0, 1, 0], ["a", "a", "b", "b"]
    tally = Tally.from_values(label, prediction, {"g": group}, 1)
    assert RATES["true_positive_rate"].by_group(tally) == {("a",): None, ("b",): 0.5}
    assert (
        fairlearn.equal_opportunity_difference(label, prediction, sensitive_features=group) == 0.5
    )
    for name in NAMED[2:]:
        assert METRICS[name](tally) is None


def test_precision_without_a_positive_prediction_is_undefined():
    assert RATES["precision"](Tally.from_values([1, 0], [0, 0], {"g": ["a", "b"]}, 1)) is None


def test_a_ratio_of_nothing_to_nothing_is_undefined():
    tally = Tally.from_values([1, 0], [0, 0], {"g": ["a", "b"]}, 1)
    assert METRICS["demographic_parity_ratio"](tally) is None
    assert METRICS["demographic_parity_difference"](tally) == 0


def test_one_group_has_no_gap():
    tally = Tally.from_values([1, 0], [1, 0], {"g": ["a", "a"]}, 1)
    assert METRICS["demographic_parity_difference"](tally) is None


def test_an_unknown_metric_is_an_error_that_lists_those_there_are():
    with pytest.raises(InputError, match=r"unknown metric 'parity'; .*demographic_parity_ratio"):
        metric("parity")
    assert metric("selection_rate") is RATES["selection_rate"]


def test_base_rates_of_the_adult_census_are_the_published_ones(data):
    files = data / "fairness" / "adult.data", data / "fairness" / "adult.test"
    sex, income = 9, 14
    frame = pd.concat(
        pd.read_csv(f, header=None, skipinitialspace=True, comment="|", usecols=[sex, income])
        for f in files
    )
    rich = frame[income].str.rstrip(".")
    tally = Tally.from_values(rich, rich, {"sex": frame[sex]}, ">50K")
    rates = RATES["base_rate"].by_group(tally)
    assert tally.total == 48_842
    assert rates["Female",] - rates["Male",] == pytest.approx(-0.194516, abs=5e-7)
    assert METRICS["demographic_parity_ratio"](tally) == pytest.approx(0.359655, abs=5e-7)


def test_base_rates_of_german_credit_are_the_published_ones(data):
    frame = pd.read_csv(data / "fairness" / "german_raw.csv")
    old = frame["age"] >= 25
    tally = Tally.from_values(frame["credit"], frame["credit"], {"old": old}, 1)
    rates = RATES["base_rate"].by_group(tally)
    assert rates["False",] - rates["True",] == pytest.approx(-0.1285499, abs=5e-8)
