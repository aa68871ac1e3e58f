"""Cells under each person's own key: destroying one erases that person, and nobody else."""

import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from compliance import frames
from compliance.crypto import columns
from compliance.crypto.hierarchy import KEY
from compliance.errors import DecryptionFailed, InputError, KeyDestroyed

WHO = [1, 2, 1, 3]
PAY = [10, 20, 11, None]


def seal(ring, who=WHO, **options):
    frame = frames.wrap(pa.table({"id": WHO, "pay": PAY, "note": ["a", "b", "c", "d"]}))
    options = {"subjects": ("person", who), "rows": range(4)} | options
    return columns.encrypt(frame, ["pay", "note"], ring, table="people", **options)


def unseal(ring, frame, who=WHO, **options):
    options = {"subjects": ("person", who), "rows": range(4)} | options
    return columns.decrypt(frame, ["pay", "note"], ring, table="people", **options)


def destroy(ring, who):
    with ring.store.writing() as connection:
        assert len(ring.destroy_subject(connection, "person", who)) == 1


def keys_of(frame, name):
    return [cell and cell[:5] for cell in frames.column(frame, name)]


def count(ring):
    return sum(info.kind == "subject" for info in ring.listing())


def test_each_persons_cells_are_under_one_key_of_their_own(any_ring):
    hidden = seal(any_ring)
    one, two, again, three = keys_of(hidden, "note")
    assert one == again
    assert len({one, two, three}) == 3
    assert keys_of(hidden, "pay") == [one, two, one, None]
    assert any_ring.by_id(int.from_bytes(one[1:], "big")).kind == "subject"
    opened = unseal(any_ring, hidden)
    assert (frames.column(opened, "pay"), frames.column(opened, "note")) == (PAY, list("abcd"))


def test_a_destroyed_key_erases_that_person_from_every_copy_and_nobody_else(any_ring):
    copies = [seal(any_ring), seal(any_ring).select(["id", "pay", "note"])]
    destroy(any_ring, 2)
    for copy in copies:
        opened = unseal(any_ring, copy, destroyed="null")
        assert frames.column(opened, "pay") == [10, None, 11, None]
        assert frames.column(opened, "note") == ["a", None, "c", "d"]
        with pytest.raises(KeyDestroyed):
            unseal(any_ring, copy)


def test_the_rows_of_the_erased_are_counted_once(ring):
    hidden = seal(ring)
    destroy(ring, 1)
    options = {"table": "people", "rows": range(4), "subjects": ("person", WHO)}
    opened = columns.open_columns(hidden, ["pay", "note"], ring, destroyed="null", **options)
    assert opened.erased == [0, 2]


def test_who_comes_back_after_an_erasure_gets_a_new_key_and_the_old_cells_stay_shut(ring):
    old = seal(ring)
    destroy(ring, 2)
    new = seal(ring)
    assert frames.column(unseal(ring, new), "note") == list("abcd")
    assert frames.column(unseal(ring, old, destroyed="null"), "note") == ["a", None, "c", "d"]


def test_opening_makes_no_key_for_anybody(ring):
    hidden = seal(ring)
    destroy(ring, 2)
    before = len(ring.listing())
    unseal(ring, hidden, destroyed="null")
    assert (len(ring.listing()), count(ring)) == (before, 3)


@pytest.mark.parametrize("typed", [str, float, np.int64, decimal.Decimal], ids=lambda t: t.__name__)
def test_a_person_is_the_same_however_the_identifier_is_typed(ring, typed):
    opened = unseal(ring, seal(ring), [typed(who) for who in WHO])
    assert frames.column(opened, "note") == list("abcd")
    assert count(ring) == 3


@pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA, pd.NaT, "", "  "], ids=repr)
def test_a_row_without_a_subject_is_refused_before_anything_is_sealed(ring, nothing):
    who = [1, nothing, 1, nothing]
    with pytest.raises(InputError, match="2 rows name no subject"):
        seal(ring, who)
    assert count(ring) == 0
    with pytest.raises(InputError, match="2 rows name no subject"):
        unseal(ring, seal(ring), who)


def test_people_may_be_called_none_and_nan(ring):
    names = ["None", "nan", "NaN", "NaT"]
    assert frames.column(unseal(ring, seal(ring, names), names), "note") == list("abcd")


def test_subjects_of_another_number_than_rows_are_refused(ring):
    with pytest.raises(InputError, match="3 subjects for 4 rows"):
        seal(ring, [1, 2, 3])


@pytest.mark.parametrize("destroyed", ["raise", "null"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"who": [2, 2, 1, 3]},
        {"who": [1, 3, 1, 3]},
        {"subjects": ("employee", WHO)},
        {"subjects": None},
        {"rows": None},
        {"rows": [2, 1, 0, 3]},
    ],
    ids=["another", "never-seen", "type", "column-mode", "no-rows", "rows"],
)
def test_cells_of_anybody_else_or_elsewhere_are_refused(ring, wrong, destroyed):
    hidden = seal(ring)
    with pytest.raises(DecryptionFailed, match="does not open"):
        unseal(ring, hidden, destroyed=destroyed, **wrong)


def test_a_cell_under_the_columns_key_is_no_persons(ring):
    hidden = seal(ring, subjects=None)
    with pytest.raises(DecryptionFailed, match="does not open"):
        unseal(ring, hidden)


def test_a_missing_value_may_be_sealed_under_its_persons_key(ring):
    hidden = seal(ring, nulls="seal", pad=32)
    assert len({len(cell) for cell in frames.column(hidden, "pay")}) == 1
    assert frames.column(unseal(ring, hidden), "pay") == PAY
    destroy(ring, 3)
    assert frames.column(unseal(ring, hidden, destroyed="null"), "pay") == PAY


def test_a_destroyed_columns_key_can_be_passed_over_only_when_asked(ring):
    hidden = seal(ring, subjects=None)
    with ring.store.writing() as connection:
        ring.keys.destroy(connection, KEY.c.kind == "column")
    with pytest.raises(KeyDestroyed):
        unseal(ring, hidden, subjects=None)
    opened = unseal(ring, hidden, subjects=None, destroyed="null")
    assert frames.column(opened, "note") == [None] * 4
