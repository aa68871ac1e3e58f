"""The cross-check agrees with fairlearn on honest counts and raises on any other."""

import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest

from compliance.errors import InputError, IntegrityError, MissingExtra
from compliance.fairness import metrics, reference
from compliance.fairness.reference import crosscheck, crosscheck_frame
from compliance.fairness.tally import Tally

WHERE = {"label": "y", "prediction": "d", "sensitive": ["sex", "age"], "positive": "yes"}


def people(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "y": rng.choice(["yes", "no"], rows).tolist(),
        "d": rng.choice(["yes", "no"], rows).tolist(),
        "sex": rng.choice(["f", "m", None], rows).tolist(),
        "age": rng.choice([30.0, 40.0, np.nan], rows).tolist(),
    }


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_honest_counts_agree(library):
    facts = crosscheck_frame(library(people()), **WHERE)
    assert facts["fairlearn"].startswith("0.")
    assert facts["fairlearn_rows"] == 400
    # 7 rates of 3 + 3 + 9 groups and 18 gaps of each of the three combinations
    assert facts["fairlearn_figures"] == 7 * 15 + 18 * 3


def test_values_and_frames_are_checked_alike():
    columns = people()
    groups = {"sex": columns["sex"], "age": np.array(columns["age"])}
    assert crosscheck(columns["y"], pd.Series(columns["d"]), groups, "yes") == crosscheck_frame(
        pd.DataFrame(columns), **WHERE
    )


def test_without_intersections_the_attributes_alone_are_compared():
    facts = crosscheck_frame(pd.DataFrame(people()), **WHERE, intersections=False)
    assert facts["fairlearn_figures"] == 7 * 6 + 18 * 2


def test_undefined_cells_are_left_out():
    facts = crosscheck([1, 1, 0, 0], [1, 0, 1, 0], {"g": ["a", "a", "b", "b"]}, 1)
    assert facts["fairlearn_figures"] == 2 * 2 + 2 * 2 + 1 + 1 + 4 + 2


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_a_long_table_is_checked_on_evenly_spaced_rows(limit):
    facts = crosscheck_frame(pd.DataFrame(people()), **WHERE, limit=limit)
    assert 1 <= facts["fairlearn_rows"] <= limit


def test_a_sample_without_the_positive_value_is_still_compared():
    labels = [0, 1, 0, 0]
    assert (
        crosscheck(labels, labels, {"g": ["a", "b", "a", "b"]}, 1, limit=2)["fairlearn_rows"] == 2
    )


def test_a_wrong_count_is_found(monkeypatch):
    honest = Tally.from_values

    def crooked(*args, **options):
        tally = honest(*args, **options)
        counts = tally.counts.copy()
        counts[0, metrics.TP] += 1
        return Tally(tally.attributes, tally.groups, counts)

    monkeypatch.setattr(Tally, "from_values", crooked)
    with pytest.raises(IntegrityError, match=r"selection_rate by sex is .* by fairlearn"):
        crosscheck_frame(pd.DataFrame(people()), **WHERE)


@pytest.mark.parametrize("name", ["equalized_odds_ratio", "demographic_parity_difference"])
def test_a_wrong_gap_is_found(monkeypatch, name):
    kept = metrics.DISPARITIES[name]
    wrong = metrics.Disparity(name, kept.kind, (metrics.accuracy, metrics.false_negative_rate))
    honest = metrics.Disparity.__call__
    monkeypatch.setattr(
        metrics.Disparity,
        "__call__",
        lambda self, tally: honest(wrong if self is kept else self, tally),
    )
    with pytest.raises(IntegrityError, match=name):
        crosscheck_frame(pd.DataFrame(people()), **WHERE)


def test_nan_agrees_with_nothing():
    with pytest.raises(IntegrityError):
        reference._agree(0.5, float("nan"), "selection_rate", ["sex"])


def test_without_fairlearn_the_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "fairlearn", None)
    with pytest.raises(MissingExtra, match=r"compliance-toolkit\[fairness\]"):
        crosscheck_frame(pd.DataFrame(people()), **WHERE)


def test_no_rows_to_compare_is_refused():
    with pytest.raises(InputError, match="at least one row"):
        crosscheck_frame(pd.DataFrame(people()), **WHERE, limit=0)
    with pytest.raises(InputError, match="no rows"):
        crosscheck([], [], {"g": []}, 1)
