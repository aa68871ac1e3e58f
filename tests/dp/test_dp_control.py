"""The budget as controls: whose rows are counted, and what is delivered."""

from decimal import Decimal
from types import SimpleNamespace

import pandas as pd
import pytest

from compliance import frames
from compliance.controls import Call, Opening
from compliance.dp.control import Deliver, Reserve, Settle, Unchanged, require_unit
from compliance.errors import NotPrivate
from compliance.policy import Activity, Budget, Policy, Privacy

PEOPLE = Budget(dataset="d", unit="subject", epsilon=1, delta=1e-5)
ROWS = Budget(dataset="d", unit="row", epsilon=1, delta=1e-5)


def call(*openings, privacy=True, required=True, kind="training"):
    rule = Privacy(budget="b", epsilon=1, delta=1e-6, required=required) if privacy else None
    policy = Policy(
        activities={"a": Activity(purpose="p", datasets=(), privacy=rule)}, budgets={"b": PEOPLE}
    )
    made = Call(kind, "a", policy, None)
    made.openings = list(openings)
    return made


def opening(*subjects, dataset="d", audits=False):
    frame = frames.wrap(pd.DataFrame({"x": range(len(subjects))}))
    return Opening(dataset, frame, None if subjects == (None,) else list(subjects), audits=audits)


@pytest.mark.parametrize("subjects", [(), (1,), (1, 2, 3), ("a", "A"), (1, 1.5), (1, 10)])
def test_a_row_for_each_subject_is_what_training_protects(subjects):
    require_unit(call(opening(*subjects)), PEOPLE)


@pytest.mark.parametrize(
    "subjects",
    [(1, 1), (1, "1"), (1, 1.0), ("1", " 1 "), (1, Decimal("1.0")), (float("nan"), float("nan"))],
)
def test_two_rows_of_one_subject_are_refused_however_written(subjects):
    with pytest.raises(NotPrivate, match="one subject has 2 rows in 'd'"):
        require_unit(call(opening(*subjects)), PEOPLE)
    require_unit(call(opening(*subjects)), ROWS)


def test_openings_count_together_and_those_of_the_audit_or_other_data_do_not():
    with pytest.raises(NotPrivate, match="one subject has 3 rows"):
        require_unit(call(opening(1, 2), opening(2, 3), opening(2)), PEOPLE)
    require_unit(call(opening(1), opening(1, audits=True), opening(1, dataset="other")), PEOPLE)


@pytest.mark.parametrize("dataset", ["d", ""])
def test_rows_of_nobody_cannot_be_protected_as_people(dataset):
    with pytest.raises(NotPrivate, match="declare its subject column, or set unit: row"):
        require_unit(call(opening(None, dataset=dataset)), PEOPLE)


def test_without_a_rule_the_controls_do_nothing():
    plain = call(privacy=False)
    for control in (Reserve(None, None), Deliver(), Settle(None, None), Unchanged()):
        control(plain)
    assert plain.facts == {}
    assert plain.reservation is None


def test_demanded_privacy_that_was_never_asked_for_is_refused():
    with pytest.raises(NotPrivate, match="never called"):
        Deliver()(call())
    Deliver()(call(required=False))
    Deliver()(call(kind="activity"))


def test_rows_opened_after_the_training_began_are_counted_before_delivery():
    made = call(opening(1, 2), opening(2))
    made.result = made.private = SimpleNamespace(release=lambda model: model)
    with pytest.raises(NotPrivate, match="one subject has 2 rows"):
        Deliver()(made)
    assert "private" not in made.facts


def test_what_is_not_delivered_is_not_settled():
    failed = call()
    failed.reservation = failed.private = SimpleNamespace()
    Settle(None, None)(failed)
    assert failed.facts == {}


def test_delivery_asks_the_record_of_the_training():
    made = call()
    made.result = "wrapped"
    made.private = SimpleNamespace(release=lambda model: f"plain of {model}")
    Deliver()(made)
    assert (made.result, made.facts) == ("plain of wrapped", {"private": True})


def test_what_predicting_changed_is_refused_at_the_end():
    def check(model):
        raise NotPrivate("changed")

    made = call()
    made.private, made.result = SimpleNamespace(check=check), "model"
    with pytest.raises(NotPrivate):
        Unchanged()(made)
    made.result = None
    Unchanged()(made)
