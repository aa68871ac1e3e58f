"""A tally counts every row once, adds exactly, and holds no row."""

import hashlib

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.errors import InputError
from compliance.fairness.tally import CELLS, UNKNOWN, Tally

ROWS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 1),
        st.sampled_from(["f", "m", None]),
        st.sampled_from(["x", "y", "z"]),
    ),
    min_size=1,
    max_size=40,
)


def tally(rows, **options):
    label, prediction, sex, race = (list(column) for column in zip(*rows, strict=True))
    return Tally.from_values(
        label, prediction, {"sex": sex, "race": race}, 1, negative=0, **options
    )


def naive(rows):
    counts = {}
    for label, prediction, sex, race in rows:
        cells = counts.setdefault((UNKNOWN if sex is None else sex, race), [0] * 4)
        cells[2 * label + prediction] += 1
    return counts


@given(ROWS)
def test_every_row_is_counted_once_in_its_group_and_cell(rows):
    counted = tally(rows)
    assert dict(zip(counted.groups, counted.counts.tolist(), strict=True)) == naive(rows)
    assert counted.total == len(rows)


@given(ROWS, ROWS, ROWS)
def test_tallies_add_as_their_rows_do_in_any_order_and_grouping(a, b, c):
    one, two, three = tally(a), tally(b), tally(c)
    assert one + two == two + one == tally(a + b)
    assert (one + two) + three == one + (two + three) == sum([one, two, three])
    assert hash(one + two) == hash(two + one)


@given(ROWS, ROWS)
def test_summing_over_attributes_and_adding_commute(a, b):
    assert (tally(a) + tally(b)).by("sex") == tally(a).by("sex") + tally(b).by("sex")


@given(ROWS)
def test_an_attribute_alone_is_the_sum_over_the_others(rows):
    counted = tally(rows)
    assert counted.by("sex") == Tally.from_values(
        [r[0] for r in rows], [r[1] for r in rows], {"sex": [r[2] for r in rows]}, 1, negative=0
    )
    assert counted.by("race", "sex").by("sex", "race") == counted
    assert counted.by().counts.tolist() == [counted.counts.sum(axis=0).tolist()]


FRAME = {
    "y": [1, 0, 1, 0, 1],
    "d": [1, 1, 0, 0, 1],
    "sex": ["f", "m", None, "f", "f"],
    "age": [30, 40, None, 30, 30],
}


def categories():
    return pd.DataFrame(FRAME).astype({"sex": "category", "age": "category"})


def dictionaries():
    table = pa.table(FRAME)
    return table.set_column(2, "sex", table["sex"].dictionary_encode())


READERS = {
    "pandas": lambda: pd.DataFrame(FRAME),
    "pandas categories": categories,
    "polars": lambda: pl.DataFrame(FRAME),
    "polars lazy": lambda: pl.LazyFrame(FRAME),
    "arrow": lambda: pa.table(FRAME),
    "arrow dictionaries": dictionaries,
}


def check(frame):
    counted = Tally.of(frame, label="y", prediction="d", sensitive=["sex", "age"], positive=1)
    assert counted.groups == (("(unknown)", "(unknown)"), ("f", "30"), ("m", "40"))
    assert counted.counts.tolist() == [[0, 0, 1, 0], [1, 0, 0, 2], [0, 1, 0, 0]]


@pytest.mark.parametrize("reader", READERS)
def test_every_library_gives_the_same_tally(reader):
    check(READERS[reader]())


def test_a_duckdb_relation_gives_the_same_tally():
    with duckdb.connect() as connection:
        check(connection.from_arrow(pa.table(FRAME)))


def test_missing_attribute_values_form_a_group_of_the_name_given():
    counted = Tally.of(
        pd.DataFrame(FRAME), label="y", prediction="d", sensitive="sex", positive=1, unknown="?"
    )
    assert counted.groups == (("?",), ("f",), ("m",))


def test_shards_merge_though_their_readers_typed_a_column_differently():
    whole = Tally.from_values([1, 0], [1, 0], {"age": [30, 40]}, 1)
    gaps = Tally.from_values([1, 0], [1, 0], {"age": np.array([30.0, np.nan])}, 1)
    assert (whole + gaps).groups == ((UNKNOWN,), ("30",), ("40",))


def test_wide_attributes_take_the_sparse_path_to_the_same_counts():
    rng = np.random.default_rng(1)
    columns = {name: rng.integers(0, 900, 2_000) for name in "abc"}
    counted = Tally.from_values(rng.integers(0, 2, 2_000), rng.integers(0, 2, 2_000), columns, 1)
    assert counted.total == 2_000
    assert counted.by("a") == counted.by("a", "b").by("a")


def test_a_tally_of_48_groups_is_small_and_holds_no_row():
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 48, 100_000)
    counted = Tally.from_values(codes % 2, codes % 2, {"g": codes}, 1)
    assert counted.counts.nbytes == 48 * len(CELLS) * 8
    assert counted.counts.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        counted.counts[0, 0] = 7


def test_the_repr_names_no_group():
    counted = Tally.of(
        pd.DataFrame(FRAME), label="y", prediction="d", sensitive=["age"], positive=1
    )
    assert repr(counted) == "<Tally of 5 rows in 3 groups by age>"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "nope"}, "no column 'nope'; there are: 'y', 'd', 'sex', 'age'"),
        ({"sensitive": ["nope"]}, "no column 'nope'"),
        ({"sensitive": ["sex", "sex"]}, "named twice"),
        ({"sensitive": []}, "name at least one sensitive attribute"),
        ({"positive": "yes"}, "occurs in neither"),
    ],
)
def test_wrong_columns_are_clear_errors(changes, message):
    given_ = {"label": "y", "prediction": "d", "sensitive": ["sex"], "positive": 1} | changes
    with pytest.raises(InputError, match=message):
        Tally.of(pd.DataFrame(FRAME), **given_)


def test_an_empty_frame_is_refused():
    with pytest.raises(InputError, match="no rows"):
        Tally.of(pd.DataFrame(FRAME)[:0], label="y", prediction="d", sensitive=["sex"], positive=1)


def test_what_is_no_frame_is_refused():
    with pytest.raises(InputError, match="expected a data frame"):
        Tally.of(FRAME, label="y", prediction="d", sensitive=["sex"], positive=1)


def test_attributes_of_another_length_are_refused():
    with pytest.raises(InputError, match="sex: 1 values for 2 labels"):
        Tally.from_values([1, 0], [1, 0], {"sex": ["f"]}, 1)


def test_an_attribute_of_names_is_refused_without_showing_one():
    names = [hashlib.sha256(bytes([i % 256, i // 256])).hexdigest() for i in range(1_001)]
    labels = [i % 2 for i in range(1_001)]
    with pytest.raises(InputError, match="1,001 distinct values") as caught:
        Tally.from_values(labels, labels, {"name": names}, 1)
    assert not any(name in str(caught.value) for name in names)


def test_more_groups_than_a_tally_may_hold_are_refused():
    rng = np.random.default_rng(3)
    columns = {name: rng.integers(0, 1_000, 150_000) for name in "ab"}
    labels = rng.integers(0, 2, 150_000)
    with pytest.raises(InputError, match="more than 100,000 groups"):
        Tally.from_values(labels, labels, columns, 1)


def test_marginals_of_what_was_not_counted_are_refused():
    counted = Tally.from_values([1, 0], [1, 0], {"sex": ["f", "m"]}, 1)
    with pytest.raises(InputError, match="'race' was not counted; there are: sex"):
        counted.by("race")
    with pytest.raises(InputError, match="named twice"):
        counted.by("sex", "sex")


def test_tallies_of_other_attributes_do_not_add():
    one = Tally.from_values([1, 0], [1, 0], {"sex": ["f", "m"]}, 1)
    other = Tally.from_values([1, 0], [1, 0], {"race": ["f", "m"]}, 1)
    with pytest.raises(InputError, match="same attributes"):
        _ = one + other
    with pytest.raises(TypeError):
        _ = one + 1


@pytest.mark.parametrize(
    ("groups", "counts", "message"),
    [
        ((("a",),), [[1, 2, 3]], "whole numbers, 1 x 4"),
        ((("a",),), [[1.0, 2.0, 3.0, 4.0]], "whole numbers"),
        ((("a",),), [[-1, 0, 0, 0]], "negative"),
        ((("b",), ("a",)), [[1, 0, 0, 0], [1, 0, 0, 0]], "ascending"),
        ((("a",), ("a",)), [[1, 0, 0, 0], [1, 0, 0, 0]], "distinct"),
        ((("a", "b"),), [[1, 0, 0, 0]], "one value per attribute"),
    ],
)
def test_a_tally_that_cannot_be_is_refused(groups, counts, message):
    with pytest.raises(InputError, match=message):
        Tally(("sex",), groups, np.array(counts))
