"""Columns of every library and type become the same codes, or a clear error."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from compliance.errors import InputError
from compliance.fairness.coding import MISSING, encode, flags, kind

NAN = float("nan")


def decoded(values):
    column = encode("c", values)
    return [None if code == MISSING else column.distinct[code] for code in column.codes]


@pytest.mark.parametrize(
    "values",
    [
        ["a", "b", None, "a"],
        ("a", "b", NAN, "a"),
        iter(["a", "b", None, "a"]),
        np.array(["a", "b", None, "a"], dtype=object),
        pd.Series(["a", "b", None, "a"]),
        pd.Series(["a", "b", pd.NA, "a"], dtype="string"),
        pd.Series(pd.Categorical(["a", "b", None, "a"], categories=["z", "b", "a"])),
        pl.Series(["a", "b", None, "a"]),
        pl.Series(["a", "b", None, "a"], dtype=pl.Categorical),
        pl.Series(["a", "b", None, "a"], dtype=pl.Enum(["z", "a", "b"])),
        pa.chunked_array([["a", "b"], [None, "a"]]),
        pa.chunked_array(
            [pa.array(["a", "b"]).dictionary_encode(), pa.array([None, "a"]).dictionary_encode()]
        ),
    ],
    ids=lambda values: type(values).__name__,
)
def test_text_of_every_library_is_coded_alike(values):
    assert decoded(values) == ["a", "b", None, "a"]


@pytest.mark.parametrize(
    "values",
    [
        [1, NAN, 2],
        np.array([1.0, NAN, 2.0]),
        pd.Series([1, None, 2], dtype="Int64"),
        pl.Series([1.0, NAN, 2.0]),
        pl.Series([1, None, 2]),
        [Decimal(1), None, Decimal(2)],
    ],
    ids=lambda values: type(values).__name__,
)
def test_numbers_of_every_library_are_coded_alike(values):
    assert decoded(values) == [1, None, 2]


def test_columns_of_mixed_types_keep_text_and_numbers_apart():
    assert decoded([1, "1", None, 1.0, pd.NaT, True]) == [1, "1", None, 1, None, 1]


def test_dates_can_be_groups():
    assert decoded([dt.date(2020, 1, 1), None]) == [dt.date(2020, 1, 1), None]


def test_unused_categories_are_no_values():
    assert encode("c", pd.Series(pd.Categorical(["a"], categories=["b", "a"]))).distinct == ("a",)


@pytest.mark.parametrize("values", [[[1], [2]], [{"a": 1}], np.ones((2, 2))])
def test_cells_that_hold_several_values_are_refused(values):
    with pytest.raises(InputError, match="c: its cells cannot be grouped"):
        encode("c", values)


@pytest.mark.parametrize("values", ["abc", b"abc", 5, None])
def test_what_is_no_column_is_refused(values):
    with pytest.raises(InputError, match="c: expected a column of values"):
        encode("c", values)


def both(label, prediction, positive, negative=None):
    one, other = flags(encode("label", label), encode("prediction", prediction), positive, negative)
    return one.tolist(), other.tolist()


@pytest.mark.parametrize(
    ("label", "positive"),
    [
        ([1, 0], 1),
        ([1.0, 0.0], 1),
        ([True, False], 1),
        (np.array([1, 0]), np.int64(1)),
        (["yes", "no"], "yes"),
        ([">50K", "<=50K"], ">50K"),
        ([2, 1], 2),
        ([1, -1], True),
    ],
)
def test_the_positive_value_may_be_any_value(label, positive):
    assert both(label, label, positive) == ([True, False], [True, False])


def test_labels_as_numbers_and_predictions_as_booleans_are_the_same_values():
    assert both([1, 0, 1], np.array([True, True, False]), 1) == (
        [True, False, True],
        [True, True, False],
    )


@pytest.mark.parametrize(
    ("label", "prediction", "positive", "message"),
    [
        (
            ["yes", "no"],
            ["yes", "no"],
            1,
            r"positive value 1 \(number\) occurs in neither column: label holds 2 distinct value\(s\), text \('no', 'yes'\)",
        ),
        (["yes", "no"], [1, 0], 1, "do not use the same two values"),
        (["yes", "yes"], [1, 1], 1, "do not use the same two values"),
        (["1", "0"], ["1", "0"], 1, "occurs in neither"),
        ([1, 0], [0.3, 0.7], 1, "do not use the same two values"),
        ([1, 0, 1], [0.3, 0.7, 0.2], 1, "scores: turn them into decisions with a threshold"),
        (["<=50K", ">50K"], ["<=50K.", ">50K."], ">50K", "do not use the same two values"),
        ([1, 2, 3], [1, 2, 1], 1, "a decision has two values, here are 3 distinct"),
        ([0, 0], [0, 0], 1, "occurs in neither"),
        ([1, None], [1, 0], 1, "label: 1 of 2 rows have no value"),
        ([1, 0], [1, NAN], 1, "prediction: 1 of 2 rows have no value"),
        ([1, 0], [1], 1, "2 labels but 1 predictions"),
        ([], [], 1, "no rows"),
        ([1, 0], [1, 0], None, "name the positive value"),
        ([1, 0], [1, 0], NAN, "name the positive value"),
        ([1, 0], [1, 0], [1], "must be one plain value"),
    ],
)
def test_what_would_give_a_silent_zero_is_refused(label, prediction, positive, message):
    with pytest.raises(InputError, match=message):
        both(label, prediction, positive)


def test_a_shard_without_the_positive_value_needs_both_values_named():
    assert both([0, 0], [0, 0], 1, negative=0) == ([False, False], [False, False])
    with pytest.raises(InputError, match="neither 1 nor 0"):
        both([2, 0], [0, 0], 1, negative=0)
    with pytest.raises(InputError, match="same two values"):
        both(["no"], ["no"], 1, negative="no")


def test_an_error_about_many_values_shows_none_of_them():
    names = [f"person-{i}" for i in range(20)]
    with pytest.raises(InputError, match="20 distinct") as caught:
        both(names, names, 1)
    assert "person" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, "boolean"),
        (np.bool_(1), "boolean"),
        (1, "number"),
        (np.float32(1), "number"),
        ("1", "text"),
        (b"1", "bytes"),
    ],
)
def test_kinds_are_told_in_words(value, said):
    assert kind(value) == said
