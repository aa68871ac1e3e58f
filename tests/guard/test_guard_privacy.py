"""Story 1 under a norm of privacy: the budget, the body, and the model that may leave."""

import pandas as pd
import pytest
import torch
from privately import EPOCHS, allow, lend, parts, private, spent, steps, tensors
from sklearn.linear_model import LogisticRegression
from world import ACTIVITY, FEATURES, fit

from compliance.errors import (
    AuditFailed,
    BudgetExhausted,
    ComplianceError,
    InputError,
    NotPrivate,
    StoreError,
)
from compliance.trail.log import Trail


@pytest.fixture
def guard(strict):
    return strict.guard()


@pytest.fixture
def rows(strict, guard):
    return guard.dataset("applicants")(lambda: strict.frame)


def test_a_private_training_reserves_settles_and_seals_in_order(strict, guard, rows):
    handle, start = rows(), strict.size()
    model = guard.training(ACTIVITY)(private)(handle)
    assert strict.events(start) == [
        "training.intent",
        "training.opened",
        "training.reserved",
        "training.settled",
        "training.sealed",
        "training.outcome",
    ]
    assert strict.last("training.reserved")["facts"] == {
        "budget": "applicants",
        "epsilon": "1.0",
        "delta": "1e-05",
    }
    facts = strict.last("training.outcome")["facts"]
    assert 0 < float(facts["epsilon"]) <= 1
    assert facts["private"] is True
    assert spent(strict) == (pytest.approx(float(facts["epsilon"]), abs=1e-8), 0)
    manifest = guard.fetch(ACTIVITY, into=torch.nn.Linear(len(FEATURES), 1))[1]
    assert manifest.origin.epsilon == pytest.approx(float(facts["epsilon"]), abs=1e-6)
    assert type(model) is torch.nn.Linear
    assert strict.verified()


def test_fewer_steps_than_planned_cost_less_than_the_cap(strict, guard, rows):
    def body(run, data):
        model, optimizer, loader = run.private(*parts(data), epochs=EPOCHS)
        steps(model, optimizer, loader, epochs=1)
        return lend(run, model)

    guard.training(ACTIVITY)(body)(rows())
    assert spent(strict)[0] < 0.95


def test_the_budget_is_reserved_before_the_body_and_without_it_the_body_does_not_run(strict):
    guard = allow(strict, 1.5)
    rows = guard.dataset("applicants")(lambda: strict.frame)
    handle, ran = rows(), []
    guard.training(ACTIVITY)(lambda run, data: ran.append(spent(strict)) or private(run, data))(
        handle
    )
    assert ran == [(0, 1)]
    with pytest.raises(BudgetExhausted):
        guard.training(ACTIVITY)(lambda run, data: ran.append(1))(handle)
    assert len(ran) == 1
    assert sum(spent(strict)) <= 1.5


# -- a body that does not deliver ----------------------------------------------------------


def refused(guard, rows, body, kind=NotPrivate, match=None):
    got = []
    with pytest.raises(kind, match=match):
        got.append(guard.training(ACTIVITY)(body)(rows()))
    assert got == []


def another(run, data):
    private(run, data)
    return lend(run, torch.nn.Linear(len(FEATURES), 1))


def two(run, data):
    model = private(run, data)
    return {"private": model, "other": torch.nn.Linear(1, 1)}


def touched(run, data):
    model = private(run, data)
    with torch.no_grad():
        model.weight += 1
    return model


def estimator(run, data):
    private(run, data)
    return fit(run, data)


def too_long(run, data):
    model, optimizer, loader = run.private(*parts(data), epochs=1)
    steps(model, optimizer, loader, epochs=2)
    return lend(run, model)


def by_the_old_optimizer(run, data):
    model, optimizer, loader = parts(data)
    run.private(model, optimizer, loader, epochs=EPOCHS)
    steps(model, optimizer, loader, epochs=1)
    return lend(run, model)


def by_the_old_loader(run, data):
    model, optimizer, loader = parts(data)
    model, optimizer, _ = run.private(model, optimizer, loader, epochs=EPOCHS)
    steps(model, optimizer, loader, epochs=1)
    return lend(run, model)


def twice(run, data):
    private(run, data)
    return private(run, data)


def unlearned_then_predicted(run, data):
    """Return the private model, and spoil it while the audit asks it for predictions."""
    model = private(run, data)

    def predict(frame):
        with torch.no_grad():
            model.weight.copy_(tensors(data)[:1])
        return [1] * len(frame)

    run.predictor(predict)
    return model


def sklearn_through_private(run, data):
    return run.private(LogisticRegression())


def each_row_twice(run, data):
    return private(run, pd.concat([data, data]))


def opened_again(run, data):
    run.open(HANDLES[-1])
    return private(run, data)


HANDLES = []
BODIES = {
    "never called": (fit, NotPrivate, "never called"),
    "another model": (another, NotPrivate, "not|copy"),
    "two models": (two, NotPrivate, "not the one"),
    "changed by hand": (touched, NotPrivate, "was changed by something else"),
    "an estimator": (estimator, NotPrivate, "not the one"),
    "steps beyond the plan": (too_long, BudgetExhausted, "all were taken"),
    "the old optimizer": (by_the_old_optimizer, NotPrivate, "the one given"),
    "the old loader": (by_the_old_loader, NotPrivate, "not drawn by the loader"),
    "twice in one run": (twice, NotPrivate, "called twice"),
    "changed while predicting": (
        unlearned_then_predicted,
        NotPrivate,
        "was changed by something else",
    ),
    "scikit-learn": (
        sklearn_through_private,
        NotPrivate,
        "scikit-learn estimators cannot be made private",
    ),
    "each row twice": (each_row_twice, NotPrivate, "more than once"),
    "opened twice": (opened_again, NotPrivate, "one subject has 2 rows"),
    "nothing returned": (lambda run, data: private(run, data) and None, NotPrivate, None),
}


@pytest.mark.parametrize(("body", "kind", "match"), BODIES.values(), ids=BODIES)
def test_what_is_not_the_private_model_never_leaves(strict, guard, rows, body, kind, match):
    HANDLES.append(rows())
    refused(guard, rows, body, kind, match)
    assert strict.models() == []
    assert "training.sealed" not in strict.events()
    assert sum(spent(strict)) == pytest.approx(1, abs=0.01)
    assert strict.last("training.outcome")["outcome"] == "refused"


def test_a_copy_with_the_private_state_is_the_private_model(strict, guard, rows):
    def body(run, data):
        model = private(run, data)
        other = torch.nn.Linear(len(FEATURES), 1)
        other.load_state_dict(model.state_dict())
        return lend(run, other)

    assert guard.training(ACTIVITY)(body)(rows()) is not None
    assert strict.models() == ["000001"]


def test_where_privacy_may_be_left_out_the_cap_is_spent_all_the_same(strict):
    guard = strict.alter(privacy={"required": False}).guard()
    rows = guard.dataset("applicants")(lambda: strict.frame)
    assert guard.training(ACTIVITY)(fit)(rows()) is not None
    assert spent(strict) == (0, 1)


def test_without_a_rule_there_is_nothing_to_be_private_by(world):
    guard = world.guard()
    rows = guard.dataset("applicants")(lambda: world.frame)
    refused(guard, rows, private, NotPrivate, "no privacy rule")


# -- the unit that is protected --------------------------------------------------------------


def test_where_the_budget_protects_people_each_is_one_row(strict, guard):
    double = pd.concat([strict.frame, strict.frame.assign(amount=1_000)], ignore_index=True)
    ran = []
    rows = guard.dataset("applicants")(lambda: double)
    refused(guard, rows, lambda run, data: ran.append(1), NotPrivate, "one subject has 2 rows")
    assert ran == []
    assert spent(strict) == (0, 0)


@pytest.mark.parametrize(
    "second", [lambda c: c.map(str), lambda c: c.astype(float)], ids=["text", "float"]
)
def test_a_person_is_one_however_the_number_is_written(strict, guard, second):
    one = strict.frame.astype({"customer_id": object})
    other = one.assign(customer_id=second(one["customer_id"]).astype(object), debt=1)
    rows = guard.dataset("applicants")(lambda: pd.concat([one, other], ignore_index=True))
    refused(guard, rows, private, NotPrivate, "one subject has 2 rows")


def test_rows_opened_inside_the_body_are_counted_too(strict, guard):
    double = pd.concat([strict.frame, strict.frame.assign(amount=1_000)], ignore_index=True)
    rows = guard.dataset("applicants")(lambda: double)
    refused(
        guard,
        lambda: None,
        lambda run, _: private(run, rows()),
        NotPrivate,
        "one subject has 2 rows",
    )


def test_where_the_budget_protects_rows_a_person_may_have_several(strict):
    budgets = strict.norms("budgets")
    budgets["budgets"]["applicants"]["unit"] = "row"
    strict.write("budgets", budgets)
    guard = strict.guard()
    double = pd.concat([strict.frame, strict.frame.assign(amount=1_000)], ignore_index=True)
    assert (
        guard.training(ACTIVITY)(private)(guard.dataset("applicants")(lambda: double)()) is not None
    )


def test_rows_of_nobody_known_are_not_protected_as_people(strict):
    guard = strict.alter(unregistered="scan", remove=["fairness"]).guard()
    rows = strict.frame[[*FEATURES, "repaid"]]
    refused(guard, lambda: rows, private, NotPrivate, "unregistered data names none")


# -- what stays spent --------------------------------------------------------------------------


def test_a_body_that_raises_leaves_the_reservation_spent(strict, guard, rows):
    def body(run, data):
        private(run, data)
        raise ZeroDivisionError

    refused(guard, rows, body, ZeroDivisionError)
    assert spent(strict) == (0, 1)


def test_a_failed_audit_releases_nothing_and_spends_what_was_used(strict, guard, rows):
    def body(run, data):
        model = private(run, data)
        run.predictor(lambda frame: [1])
        return model

    refused(guard, rows, body, AuditFailed)
    settled, reserved = spent(strict)
    assert 0 < settled <= 1
    assert reserved == 0
    assert strict.models() == []


@pytest.mark.parametrize("event", ["training.reserved", "training.settled"])
def test_budget_and_trail_move_together_or_not_at_all(strict, guard, rows, monkeypatch, event):
    handle, appended, ran = rows(), Trail.append_in, []

    def append_in(self, connection, *events):
        index = appended(self, connection, *events)
        if any(e.event == event for e in events):
            raise StoreError("the disk is full")
        return index

    monkeypatch.setattr(Trail, "append_in", append_in)
    refused(
        guard, lambda: handle, lambda run, data: ran.append(1) or private(run, data), StoreError
    )
    assert event not in strict.events()
    assert (spent(strict), len(ran)) == (
        ((0, 0), 0) if event == "training.reserved" else ((0, 1), 1)
    )
    assert strict.models() == []


def test_bad_parts_are_clear_errors(strict, guard, rows):
    def body(run, data):
        model, optimizer, loader = parts(data)
        for bad in (
            (model, optimizer, [1]),
            (model, torch.optim.SGD([torch.ones(1, requires_grad=True)]), loader),
            (model, None, loader),
        ):
            with pytest.raises(InputError):
                run.private(*bad, epochs=1)
        for epochs in (0, -1, 1.5):
            with pytest.raises(ComplianceError):
                run.private(model, optimizer, loader, epochs=epochs)
        return private(run, data)

    assert guard.training(ACTIVITY)(body)(rows()) is not None
