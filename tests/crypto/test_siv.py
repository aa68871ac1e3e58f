"""Deterministic cells: equal within a space, refused everywhere else."""

import base64
import datetime as dt
import os
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from epochs import mark, rotate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance import frames
from compliance.crypto import siv
from compliance.crypto.keys import Keyring
from compliance.crypto.subkeys import derive
from compliance.errors import DecryptionFailed, InputError, KeyDestroyed

MAKERS = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
WITH_RING = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUES = (
    st.text(st.characters())
    | st.integers()
    | st.binary()
    | st.dates()
    | st.uuids()
    | st.integers(-(10**300), 10**300)
)


def cell(ring, value="ana", space="people"):
    return siv.encrypt(value, ring, space=space)


def refused(ring, data, space="people"):
    with pytest.raises(DecryptionFailed) as caught:
        siv.decrypt(data, ring, space=space)
    assert "ana" not in str(caught.value)
    return str(caught.value)


@WITH_RING
@given(VALUES)
def test_a_value_comes_back_and_is_encrypted_alike_each_time(ring, value):
    hidden = cell(ring, value)
    assert hidden == cell(ring, value)
    back = siv.decrypt(hidden, ring, space="people")
    assert (back, type(back)) == (value, type(value))


def test_a_cell_has_the_documented_layout(ring):
    key = ring.named("join", "people")
    hidden = cell(ring)
    header = b"\x03" + key.id.to_bytes(4, "big")
    assert hidden[:5] == header
    assert len(hidden) == siv.OVERHEAD + len(b"sana")
    cipher = AESSIV(derive(key, "join AES-SIV", "default", "people", length=64))
    bound = [header, b"\0\0\0\x07default\0\0\0\x06people"]
    assert cipher.decrypt(hidden[5:], bound) == b"sana"


@WITH_RING
@given(VALUES, VALUES)
def test_two_cells_are_equal_where_their_values_are(ring, one, other):
    assert (cell(ring, one) == cell(ring, other)) is (one == other)


def test_text_and_number_and_bytes_are_three_values(ring):
    assert len({cell(ring, v) for v in (7, "7", b"7")}) == 3


def test_numpy_scalars_are_pythons(ring):
    assert cell(ring, np.int64(7)) == cell(ring, 7)
    assert cell(ring, np.str_("ana")) == cell(ring)


@pytest.mark.parametrize(
    "value",
    [
        0.0,
        True,
        np.bool_(True),
        Decimal("1.0"),
        dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        pd.Timestamp(1),
        dt.time(1),
        None,
        ["ana"],
        np.datetime64("2020-01-01"),
        np.datetime64("2020-01-01", "ns"),
        np.array([7]),
        np.float64(1),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_type_whose_equal_values_are_written_in_several_ways_is_refused(ring, value):
    with pytest.raises(InputError, match="not encrypted for joins"):
        cell(ring, value)


# -- place and epochs -------------------------------------------------------------------


def test_another_space_or_tenant_has_other_cells_and_refuses_mine(ring, key_file):
    other = Keyring.open(ring.store, key_file, tenant="other")
    mine = cell(ring)
    assert len({mine, cell(ring, space="staff"), cell(other)}) == 3
    assert "another space" in refused(ring, mine, space="staff")
    refused(other, mine)


def test_a_cell_that_names_another_key_of_the_space_is_refused(ring):
    first = ring.named("join", "people").id
    mine = cell(ring)
    second = rotate(ring, "join", "people")
    assert siv.decrypt(mine, ring, space="people") == "ana"
    assert cell(ring) != mine
    for key_id in (second, first + 1_000, 2**32 - 1, 0):
        refused(ring, mine[:1] + key_id.to_bytes(4, "big") + mine[5:])


def test_a_cell_that_names_a_key_of_another_kind_is_refused_before_it_is_opened(ring):
    for key in (
        ring.column("people", "name"),
        ring.named("lookup", "subjects"),
        ring.keys.domain(),
    ):
        refused(ring, b"\x03" + key.id.to_bytes(4, "big") + cell(ring)[5:])


def test_a_key_of_another_kind_does_not_open_what_was_made_with_it(ring):
    """A forger who has a column's key, and not that of the space."""
    key = ring.named("column", "people")
    header = b"\x03" + key.id.to_bytes(4, "big")
    cipher = AESSIV(derive(key, "join AES-SIV", "default", "people", length=64))
    forged = header + cipher.encrypt(b"sana", [header, b"\0\0\0\x07default\0\0\0\x06people"])
    refused(ring, forged)


def test_a_destroyed_key_opens_nothing(ring):
    mine = cell(ring)
    mark(ring, ring.named("join", "people").id, destroyed="2026-01-01", wrapped=None)
    with pytest.raises(KeyDestroyed):
        siv.decrypt(mine, ring, space="people")


# -- sabotage ------------------------------------------------------------------------------


@WITH_RING
@given(st.data())
def test_any_flipped_bit_is_noticed(ring, draw):
    damaged = bytearray(cell(ring))
    bit = draw.draw(st.integers(0, len(damaged) * 8 - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    refused(ring, bytes(damaged))


def test_a_truncated_or_lengthened_cell_is_noticed(ring):
    mine = cell(ring)
    for size in range(len(mine)):
        refused(ring, mine[:size])
    refused(ring, mine + b"\0")
    refused(ring, mine + mine)


@pytest.mark.parametrize("data", [b"", "plain", "", 7, None, os.urandom(60), "AAAA", b"\x01" * 60])
def test_what_is_no_cell_is_refused_and_not_quoted(ring, data):
    message = refused(ring, data)
    assert "plain" not in message


def test_a_wrong_key_a_wrong_place_and_altered_bytes_are_not_told_apart(ring):
    mine = cell(ring)
    other = rotate(ring, "join", "people")
    wrong_key = mine[:1] + other.to_bytes(4, "big") + mine[5:]
    assert refused(ring, wrong_key) == refused(ring, mine[:-1] + bytes([mine[-1] ^ 1]))


# -- frames -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(
    "values",
    [
        ["ana", None, "ben", "ana", ""],
        [1, None, 2**62 + 1, 1, -5],
        [b"a", None, b"", b"a", b"\0"],
        [dt.date(2024, 2, 29), None, dt.date(1, 1, 1), dt.date(2024, 2, 29), dt.date.max],
    ],
    ids=["text", "numbers", "bytes", "dates"],
)
def test_a_column_comes_back_and_missing_stays_missing(ring, make, values):
    column = pd.array(values, dtype="Int64") if make is pd.DataFrame and 1 in values else values
    frame = frames.wrap(make({"x": column}))
    hidden = siv.encrypt_column(frame, "x", ring, space="people")
    cells = frames.column(hidden, "x")
    assert cells == [None if v is None else cell(ring, v) for v in values]
    back = siv.decrypt_column(hidden, "x", ring, space="people")
    assert frames.column(back, "x") == values
    assert type(frames.native(back)) is type(frames.native(frame))


def test_tables_of_one_space_join_as_their_plain_values_do(ring):
    people = pd.DataFrame({"id": ["a", "b", "c"], "age": [1, 2, 3]})
    visits = pd.DataFrame({"who": ["b", "b", "d", "a"]})
    hidden = frames.native(siv.encrypt_column(frames.wrap(people), "id", ring, space="s"))
    others = frames.native(siv.encrypt_column(frames.wrap(visits), "who", ring, space="s"))
    joined = others.merge(hidden, left_on="who", right_on="id")
    assert joined["age"].tolist() == [2, 2, 1]


def test_cells_of_two_epochs_in_one_column_all_open(ring):
    frame = frames.wrap(pa.table({"x": ["ana"]}))
    old = siv.encrypt_column(frame, "x", ring, space="s")
    rotate(ring, "join", "s")
    both = frames.concat([old, siv.encrypt_column(frame, "x", ring, space="s"), old])
    back = siv.decrypt_column(both, "x", ring, space="s")
    assert frames.column(back, "x") == ["ana"] * 3


def test_cells_that_a_file_made_into_text_open(ring):
    text = base64.b64encode(cell(ring)).decode()
    frame = frames.wrap(pa.table({"x": [text, None]}))
    back = siv.decrypt_column(frame, "x", ring, space="people")
    assert frames.column(back, "x") == ["ana", None]


def test_true_is_refused_though_it_equals_one(ring):
    frame = frames.wrap(pd.DataFrame({"x": pd.Series([1, True], dtype=object)}))
    with pytest.raises(InputError, match="bool"):
        siv.encrypt_column(frame, "x", ring, space="people")


def test_one_altered_cell_refuses_the_column(ring):
    frame = frames.wrap(pa.table({"x": [cell(ring), cell(ring, "ben")[:-1] + b"\0"]}))
    with pytest.raises(DecryptionFailed):
        siv.decrypt_column(frame, "x", ring, space="people")


def test_an_empty_space_is_refused(ring):
    frame = frames.wrap(pa.table({"id": [1]}))
    for operation in (siv.encrypt, siv.decrypt):
        with pytest.raises(InputError, match="space is a name"):
            operation(7, ring, space="")
    for operation in (siv.encrypt_column, siv.decrypt_column):
        with pytest.raises(InputError, match="space is a name"):
            operation(frame, "id", ring, space="")
