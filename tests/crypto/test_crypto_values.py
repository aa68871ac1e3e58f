"""Values as bytes: each comes back as the very value it was, or is refused by the name of its type."""

import contextlib
import datetime as dt
import zoneinfo
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.crypto import values
from compliance.errors import DecryptionFailed, InputError

EAST = dt.timezone(dt.timedelta(hours=2))
OFFSETS = st.integers(-86_399, 86_399).map(lambda s: dt.timezone(dt.timedelta(seconds=s)))
ZONES = st.timezones()
ANY = (
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-(10**5000), 10**5000)
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.none() | OFFSETS | ZONES, allow_imaginary=True)
    | st.times(timezones=st.none() | OFFSETS)
    | st.decimals(allow_nan=False)
    | st.uuids()
)


def shown(value):
    """Return what tells any two values apart, also NaN, -0.0, 1 and 1.0 and folds."""
    if isinstance(value, int):
        return type(value), hex(value)
    fold = getattr(value, "fold", None)
    return type(value), fold, value.tzinfo if isinstance(value, dt.datetime) else None, repr(value)


def back(value):
    return values.decode_all(values.encode_all([value]))[0]


@given(ANY)
def test_a_value_comes_back_as_that_value(value):
    assert shown(back(value)) == shown(value)


@given(st.lists(ANY, max_size=8), st.integers(1, 100))
def test_padded_values_come_back_and_have_a_multiple_of_the_length(several, multiple):
    data = values.padded(values.encode_all(several), multiple)
    assert all(len(item) % multiple == 0 for item in data)
    assert list(map(shown, values.decode_all(data))) == list(map(shown, several))


@given(st.lists(st.none() | ANY, min_size=1, max_size=8), st.none() | st.integers(1, 100))
def test_values_made_alike_have_one_length_and_come_back(several, multiple):
    data = [None if v is None else values.encode(v) for v in several]
    filled = values.alike(data, multiple)
    assert len({len(item) for item in filled}) == 1
    again = values.decode_all(filled)
    assert [a is None for a in again] == [v is None for v in several]
    assert [shown(a) for a in again if a is not None] == [
        shown(v) for v in several if v is not None
    ]


@given(ANY, ANY)
def test_no_two_values_are_written_alike(one, other):
    assert (values.encode(one) == values.encode(other)) is (shown(one) == shown(other))


@pytest.mark.parametrize(
    "column",
    [
        [True, False],
        [0, -1, 2**63 - 1, -(2**63)],
        [0.0, 1e300, float("nan"), 0.1],
        [dt.date.min, dt.date.max],
        [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, 1, 2, 3, 4)],  # noqa: DTZ001
        [dt.time(0), dt.time(1, 2, 3, 4)],
    ],
    ids=["bool", "int", "float", "date", "datetime", "time"],
)
def test_the_length_tells_nothing_about_a_value_of_fixed_size(column):
    assert len(set(map(len, values.encode_all(column)))) == 1


@pytest.mark.parametrize(
    ("value", "plain"),
    [(np.int64(3), 3), (np.float32(0.5), 0.5), (np.bool_(True), True), (np.str_("a"), "a")],
)
def test_numpy_scalars_come_back_as_pythons(value, plain):
    assert (back(value), type(back(value))) == (plain, type(plain))


def test_the_times_of_pandas_come_back_as_pythons():
    when = pd.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert("Europe/Berlin")
    assert (back(when), back(when).fold) == (when, 1)
    assert back(when).tzinfo == zoneinfo.ZoneInfo("Europe/Berlin")


class Nowhere(dt.tzinfo):
    def utcoffset(self, _):
        return None


@pytest.mark.parametrize(
    "value",
    [
        [1],
        {"a": 1},
        1j,
        bytearray(b"2020"),
        dt.timedelta(2020),
        np.datetime64("2020-01-01", "ns"),
        pd.Timestamp(1),
        pd.Timestamp("2020") + pd.Timedelta(1, "ns"),
        pd.Timestamp(np.datetime64("12020-01-01", "s")),
        dt.datetime(2020, 1, 1, tzinfo=Nowhere()),
        dt.time(20, 20, tzinfo=dt.timezone(dt.timedelta(microseconds=2020))),
        dt.time(20, 20, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        object(),
        None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_not_come_back_is_refused_without_its_value(value):
    with pytest.raises(InputError, match="cannot seal") as caught:
        values.encode_all(["a", value])
    assert "2020" not in str(caught.value)


@given(st.lists(st.binary(), min_size=1))
def test_bytes_that_are_no_value_are_refused_and_never_anything_else(data):
    with contextlib.suppress(DecryptionFailed):
        assert len(values.decode_all(data)) == len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"q",
        b"b",
        b"b\x02",
        b"f1",
        b"d2020-13-01",
        b"z02020-01-01T00:00:00.000000No/Where",
        b"z02020-01-01T00:00:00.000000../../etc",
        b"z02020-01-01T00:00:00.000000Europe",
        b"s\xff",
        b"u1",
        b"c1e1e1",
        b"ps2020",
        b"p" * 5000 + b"\x80" * 5000,
    ],
)
def test_malformed_bytes_are_named_without_being_quoted(data):
    with pytest.raises(DecryptionFailed, match="does not know") as caught:
        values.decode_all([data])
    assert "2020" not in str(caught.value)


def test_a_padded_value_is_the_value_then_a_mark_then_zeros():
    assert values.padded([b"sab"], 8) == [b"psab\x80\0\0\0"]
    assert values.padded([values.encode(b"\x80\0")], 3) == [b"py\x80\0\x80\0"]
    assert values.encode(Decimal("1.10")) == b"c1.10"
