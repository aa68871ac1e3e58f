"""Unsealing opens the encrypted columns that are left, and no others."""

import pyarrow as pa
import pytest

from compliance import frames
from compliance.controls import Call, Opening, Phase
from compliance.crypto import columns
from compliance.crypto.control import Unseal
from compliance.errors import DecryptionFailed
from compliance.policy import Column, Dataset, Policy

POLICY = Policy(
    datasets={
        "people": Dataset(
            subject="id",
            columns={
                "id": Column(),
                "salary": Column(encrypted=True),
                "bonus": Column(encrypted=True),
            },
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
