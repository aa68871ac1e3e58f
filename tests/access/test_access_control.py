"""Access as controls: who may, whose rows, which columns."""

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from compliance import frames
from compliance.access.control import Authorise, ConsentRows, Minimise, serves
from compliance.access.rbac import Authority
from compliance.controls import Call, Opening, Phase
from compliance.errors import AccessDenied, ConsentMissing, InputError, PolicyError, PurposeError
from compliance.policy import Column
from compliance.trail.entries import Event

WHO = Event(event="", actor="olga")
ROWS = {"id": [1, 2, None, 3], "income": [10, 20, 30, 40], "note": ["a", "b", "c", "d"]}


@pytest.fixture(params=[pd.DataFrame, pl.DataFrame, pa.table])
def make(request):
    return request.param


@pytest.fixture
def call(policy):
    def build(*openings, name="credit-scoring", kind="training"):
        return Call(kind, name, policy, None, fresh=list(openings))

    return build


def people(make=pa.table, **columns):
    return Opening("people", frames.wrap(make(columns or ROWS)))


# -- who may --------------------------------------------------------------------------------


def test_an_activity_is_run_and_a_data_set_is_read(policy, call, who):
    authority = Authority(policy)
    Authorise(authority, who("tom"))(call())
    Authorise(authority, who("rita"))(call(name="people", kind="dataset"))
    with pytest.raises(AccessDenied):
        Authorise(authority, who("rita"))(call())
    with pytest.raises(AccessDenied):
        Authorise(authority, who("ian"))(call(name="people", kind="dataset"))


# -- whose rows -------------------------------------------------------------------------------


def test_rows_without_consent_are_dropped_and_counted(consents, call, make):
    consents.record(WHO, [1, 3], purpose="lending", state="given")
    opening = people(make)
    ConsentRows(consents)(call(opening))
    assert frames.column(opening.frame, "income") == [10, 40]
    assert opening.subjects == [1, 3]
    assert opening.facts == {"rows": 4, "rows_without_consent": 2}


def test_a_pandas_index_that_repeats_drops_the_right_rows(consents, call):
    consents.record(WHO, [3], purpose="lending", state="given")
    opening = Opening("people", frames.wrap(pd.DataFrame(ROWS, index=[0, 0, 0, 0])))
    ConsentRows(consents)(call(opening))
    assert frames.column(opening.frame, "note") == ["d"]


def test_where_nobody_agreed_the_call_is_refused(consents, call):
    with pytest.raises(ConsentMissing, match="compliance consent record"):
        ConsentRows(consents)(call(people()))


def test_a_data_set_without_rows_is_refused(consents, call):
    with pytest.raises(InputError, match="no rows"):
        ConsentRows(consents)(call(people(id=[], income=[])))


def test_a_data_set_whose_subject_column_is_missing_is_refused(consents, call):
    with pytest.raises(InputError, match="no column 'id'"):
        ConsentRows(consents)(call(people(income=[1])))


def test_a_data_set_about_nobody_passes_whole(consents, call):
    opening = Opening("prices", frames.wrap(pa.table({"price": [1, 2]})))
    ConsentRows(consents)(call(opening, name="helpdesk"))
    assert (len(opening.frame), opening.facts) == (2, {"rows": 2})


def test_a_decision_leaves_out_those_who_opted_out_of_automation(consents, call):
    consents.record(WHO, [1, 2, 3], purpose="lending", state="given")
    consents.record(WHO, [2], purpose="automated-decisions", state="opted-out")
    decision, training = people(), people()
    ConsentRows(consents)(call(decision, kind="decision"))
    ConsentRows(consents)(call(training))
    assert (decision.subjects, training.subjects) == ([1, 3], [1, 2, 3])
    assert decision.facts["rows_opted_out"] == 1


# -- which columns ------------------------------------------------------------------------------


def test_columns_outside_the_purpose_and_unlisted_ones_are_dropped(call, make):
    opening = people(make, **ROWS, secret=[1, 2, 3, 4])
    Minimise()(call(opening))
    assert opening.frame.columns == ["id", "income"]
    assert opening.facts == {"columns_dropped": 2}


def test_a_data_set_that_the_activity_does_not_name_is_refused(call):
    opening = Opening("prices", frames.wrap(pa.table({"price": [1]})))
    with pytest.raises(PurposeError, match="'credit-scoring' may not use data set 'prices'"):
        Minimise()(call(opening))


def test_an_unknown_data_set_is_refused(call):
    opening = Opening("secrets", frames.wrap(pa.table({"price": [1]})), audits=True)
    with pytest.raises(PolicyError, match="unknown data set"):
        Minimise()(call(opening))


def test_a_data_set_of_which_nothing_is_left_is_refused(call):
    with pytest.raises(PurposeError, match="no column"):
        Minimise()(call(people(note=["a"])))


def test_a_column_that_is_not_listed_serves_no_purpose():
    assert not serves(None, "lending")
    assert not serves(Column(), "lending")
    assert serves(Column(purposes=("lending",)), "lending")
    assert not serves(Column(purposes=("lending",)), "")


def test_an_unregistered_frame_is_left_to_the_scan(consents, call):
    opening = Opening("", frames.wrap(pa.table({"x": [1]})))
    ConsentRows(consents)(call(opening))
    Minimise()(call(opening))
    assert opening.frame.columns == ["x"]


def test_they_run_in_the_order_of_the_design():
    assert Phase.RECORD_INTENT < Authorise.phase < ConsentRows.phase < Minimise.phase < Phase.UNSEAL
