"""Unsealing opens the encrypted columns that are left, and no others."""

import pyarrow as pa
import pytest

from compliance import frames
from compliance.controls import Call, Opening, Phase
from compliance.crypto import columns
from compliance.crypto.control import Unseal
from compliance.crypto.hierarchy import KEY
from compliance.errors import ConsentMissing, DecryptionFailed, KeyDestroyed
from compliance.policy import Column, Dataset, Policy

POLICY = Policy(
    datasets={
        "people": Dataset(
            subject="id",
            columns={
                "id": Column(),
                "salary": Column(encrypted=True),
                "bonus": Column(encrypted=True),
                "diary": Column(encrypted="subject"),
            },
            subject_type="customer",
        )
    }
)


@pytest.fixture
def opening(ring):
    plain = frames.wrap(pa.table({"id": [1, 2], "salary": [10, 20], "bonus": [1, 2]}))
    sealed = columns.encrypt(plain, ["salary", "bonus"], ring, table="people", rows=[1, 2])
    return Opening("people", sealed.select(["id", "salary"]), subjects=[1, 2])


@pytest.fixture
def call(opening):
    return Call("training", "scoring", POLICY, None, fresh=[opening])


def test_the_encrypted_columns_that_are_left_are_opened(ring, call, opening):
    Unseal(ring)(call)
    assert frames.column(opening.frame, "salary") == [10, 20]
    assert opening.frame.columns == ["id", "salary"]
    assert opening.facts["columns_opened"] == 1


def test_cells_of_other_subjects_refuse_the_call(ring, call, opening):
    opening.subjects = [2, 1]
    with pytest.raises(DecryptionFailed):
        Unseal(ring)(call)


def test_an_unregistered_frame_is_left_alone(ring, call):
    frame = frames.wrap(pa.table({"salary": [1]}))
    call.fresh = [Opening("", frame)]
    Unseal(ring)(call)
    assert call.fresh[0].frame is frame


def test_it_runs_after_minimisation_and_before_the_scan():
    assert Phase.MINIMISE < Unseal.phase < Phase.SCAN


# -- people who were erased -----------------------------------------------------------------


@pytest.fixture
def diaries(ring):
    plain = frames.wrap(pa.table({"id": [1, 2, 1], "salary": [1, 2, 3], "diary": ["a", "b", "c"]}))
    who, at = [1, 2, 1], {"table": "people", "rows": [1, 2, 1]}
    frame = columns.encrypt(plain, ["salary"], ring, **at)
    frame = columns.encrypt(frame, ["diary"], ring, **at, subjects=("customer", who))
    return Opening("people", frame, subjects=who)


def destroy(ring, who):
    with ring.store.writing() as connection:
        assert len(ring.destroy_subject(connection, "customer", who)) == 1


def test_columns_under_peoples_own_keys_are_opened_beside_the_others(ring, call, diaries):
    call.fresh = [diaries]
    Unseal(ring)(call)
    assert frames.column(diaries.frame, "diary") == ["a", "b", "c"]
    assert frames.column(diaries.frame, "salary") == [1, 2, 3]
    assert diaries.facts == {"columns_opened": 2, "rows_erased": 0}


def test_the_rows_of_the_erased_are_dropped_and_counted_and_the_others_delivered(
    ring, call, diaries
):
    destroy(ring, 1)
    call.fresh = [diaries]
    Unseal(ring)(call)
    assert list(frames.records(diaries.frame)) == [{"id": 2, "salary": 2, "diary": "b"}]
    assert diaries.subjects == [2]
    assert diaries.facts == {"columns_opened": 2, "rows_erased": 2}


def test_a_call_for_which_everybody_was_erased_is_refused(ring, call, diaries):
    destroy(ring, 1)
    destroy(ring, 2)
    call.fresh = [diaries]
    with pytest.raises(ConsentMissing, match="was erased"):
        Unseal(ring)(call)


def test_the_destroyed_key_of_a_column_refuses_the_call(ring, call, opening):
    with ring.store.writing() as connection:
        ring.keys.destroy(connection, KEY.c.kind == "column")
    with pytest.raises(KeyDestroyed):
        Unseal(ring)(call)
