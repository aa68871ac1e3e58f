"""Row keys, and what stands for a value on its way."""

import datetime as dt
import os
import pickle
import time
from decimal import Decimal
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.crypto.orm_cells import Cell, Sealed, row_key, row_text
from compliance.errors import InputError


def test_a_row_key_is_a_uuid_of_version_7_with_the_time_in_front():
    before = time.time_ns() // 1_000_000
    key = row_key()
    after = time.time_ns() // 1_000_000
    assert (key.version, key.variant) == (7, RFC_4122)
    assert before <= key.int >> 80 <= after


@pytest.mark.parametrize("noise", [b"\0" * 10, b"\xff" * 10], ids=["zeros", "ones"])
def test_noise_never_reaches_version_variant_and_time(noise, monkeypatch):
    monkeypatch.setattr(os, "urandom", lambda _: noise)
    monkeypatch.setattr(time, "time_ns", lambda: 0x017F22E279B0 * 1_000_000)
    key = row_key()  # RFC 9562, A.6: the same time, version and variant
    assert (key.version, key.variant) == (7, RFC_4122)
    assert str(key).startswith("017f22e2-79b0-7")


def test_row_keys_are_unique_and_follow_time():
    keys = [row_key() for _ in range(10_000)]
    stamps = [key.int >> 80 for key in keys]
    assert len(set(keys)) == len(keys)
    assert stamps == sorted(stamps)


def test_the_row_of_one_key_is_the_row_of_the_frame_functions():
    key = row_key()
    assert (row_text((7,)), row_text(("7",)), row_text((key,))) == ("7", "7", str(key))


TEXTS = st.text().map(str.strip)


@given(st.tuples(TEXTS, TEXTS, TEXTS), st.tuples(TEXTS, TEXTS, TEXTS))
def test_composite_rows_are_alike_only_where_their_parts_are(one, other):
    assert (row_text(one) == row_text(other)) == (one == other)


@pytest.mark.parametrize(
    "part",
    [1.5, Decimal("1.10"), dt.datetime(2026, 1, 1, tzinfo=dt.UTC), True, None, ("a",)],
    ids=lambda part: type(part).__name__,
)
def test_keys_that_a_database_may_give_back_otherwise_are_refused(part):
    with pytest.raises(InputError, match="row key"):
        row_text((part,))


@pytest.mark.parametrize("part", [UUID(int=1), dt.date(2026, 1, 1), b"k", "k", 3], ids=str)
def test_keys_that_come_back_as_they_were_are_taken(part):
    assert row_text((part,))


class _Type:
    title = "t.c"

    def unseal(self, raw, row, subject):
        return raw, row, subject


def test_a_cell_shows_nothing_and_is_not_pickled():
    cell = Sealed(_Type(), b"secret")
    assert repr(cell) == str(cell) == "<sealed t.c>"
    assert repr(Cell(None, b"secret")) == "<sealed>"
    with pytest.raises(InputError, match="not pickled"):
        pickle.dumps(cell)


def test_a_cell_opens_with_its_row_and_subject():
    cell = Sealed(_Type(), b"raw")
    assert cell.open(7) == (b"raw", "7", None)
    assert cell.open(("a", 1), subject=5) == (b"raw", '["a", "1"]', 5)


def test_keys_that_differ_by_spaces_are_keys_of_two_rows():
    texts = {row_text([key]) for key in ("7", "7 ", " 7", "7\xa0", 7)}
    assert len(texts) == 4  # a database gives a number back as a number or as its text
