"""The budget as controls: whose rows are counted, and what is delivered."""

from decimal import Decimal
from types import SimpleNamespace

import pandas as pd
import pytest

from compliance import frames
from compliance.access.identity import Identity
from compliance.controls import Call, Opening
from compliance.crypto.keys import Keyring
from compliance.dp.control import (
    Deliver,
    Reserve,
    Settle,
    Unchanged,
    discrepancies,
    require_unit,
)
from compliance.dp.ledger import Ledger
from compliance.errors import BudgetExhausted, IntegrityError, NotPrivate
from compliance.policy import Activity, Budget, Method, Policy, Privacy
from compliance.store import Store
from compliance.trail.log import Trail

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


# -- the ledger against the trail -----------------------------------------------------------


WHO = Identity("ada", Method.OS, "svc")
LEDGER = Budget(dataset="d", unit="row", epsilon=1, delta=1e-5)
SUM = (
    "UPDATE compliance_budget_account SET (epsilon, delta) = (SELECT "
    "SUM(COALESCE(settled_epsilon, epsilon)), SUM(COALESCE(settled_delta, delta)) "
    "FROM compliance_budget_reservation)"
)


class Office:
    """A ledger and a trail in one database, and runs that draw on budget ``b``."""

    def __init__(self, store, ring):
        self.store, self.ledger, self.trail = store, Ledger(store), Trail(store, ring.signer())

    def run(self, settle=None):
        rule = Privacy(budget="b", epsilon=0.3, delta=1e-6)
        activity = Activity(purpose="p", datasets=(), privacy=rule)
        made = Call("training", "a", Policy(activities={"a": activity}, budgets={"b": LEDGER}), WHO)
        Reserve(self.ledger, self.trail)(made)
        if settle is not None:
            made.facts["private"] = True
            made.private = SimpleNamespace(epsilon_spent=lambda: settle, steps=1)
            Settle(self.ledger, self.trail)(made)

    def sql(self, *statements):
        with self.store.writing() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def found(self):
        return discrepancies(self.ledger, self.trail, ["b"])


@pytest.fixture(params=["sqlite", "postgresql"])
def office(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    store = Store.open(url)
    yield Office(store, Keyring.open(store, tmp_path / "master.json"))
    store.close()


def test_a_ledger_left_alone_is_not_accused(office):
    assert office.found() == ()
    office.run()
    office.run(0.123456789123)
    office.run(0.0)
    office.run(1e-12)
    assert office.found() == discrepancies(office.ledger, office.trail) == ()
    with pytest.raises(BudgetExhausted):
        [office.run() for _ in range(9)]
    assert office.found() == ()


HANDS = {
    "a reservation deleted": ("DELETE FROM compliance_budget_reservation WHERE id = 1",),
    "all deleted": ("DELETE FROM compliance_budget_reservation",),
    "all deleted, the account too": (
        "DELETE FROM compliance_budget_reservation",
        "DELETE FROM compliance_budget_account",
    ),
    "the account deleted": ("DELETE FROM compliance_budget_account",),
    "the account lowered": ("UPDATE compliance_budget_account SET epsilon = 0",),
    "the delta lowered": ("UPDATE compliance_budget_account SET delta = 0",),
    "a settled figure lowered": (
        "UPDATE compliance_budget_reservation SET settled_epsilon = 1 WHERE id = 2",
        SUM,
    ),
    "an open one settled at nothing": (
        (
            "UPDATE compliance_budget_reservation SET settled_at = 'now', settled_epsilon = 0, "
            "settled_delta = 0 WHERE id = 1"
        ),
        SUM,
    ),
    "moved to another budget": ("UPDATE compliance_budget_reservation SET budget = 'c'",),
}


@pytest.mark.parametrize("statements", HANDS.values(), ids=HANDS)
def test_a_ledger_that_a_hand_made_smaller_is_found_and_lets_nothing_run(office, statements):
    office.run()
    office.run(0.2)
    office.sql(*statements)
    assert office.found() == ("the ledger of budget 'b' holds less than the trail says was spent",)
    entries = office.trail.size()
    runs = office.ledger.spending("b").runs
    with pytest.raises(IntegrityError, match="holds less than the trail says was spent: restore"):
        office.run()
    assert (office.trail.size(), office.ledger.spending("b").runs) == (entries, runs)


def test_a_ledger_that_holds_more_is_on_the_safe_side(office):
    office.run(0.2)
    office.sql("UPDATE compliance_budget_account SET epsilon = epsilon + 1")
    assert office.found() == ()


def test_another_budget_is_another_matter(office):
    office.run()
    office.sql("DELETE FROM compliance_budget_reservation")
    assert discrepancies(office.ledger, office.trail, ["other"]) == ()
    assert len(discrepancies(office.ledger, office.trail)) == 1
