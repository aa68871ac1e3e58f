"""Story 1, the fairness audit: what it withholds, what it reports, what it cannot decide."""

import numpy as np
import pandas as pd
import pytest
import torch
from world import ACTIVITY, FEATURES, fit

from compliance.errors import (
    AuditFailed,
    ComplianceError,
    InputError,
    InsufficientEvidence,
    IntegrityError,
    MissingExtra,
)
from compliance.fairness import reference

RULE = {
    "label": "repaid",
    "positive": 1,
    "sensitive": ["sex"],
    "norms": ["four-fifths"],
    "rows": {"share": 0.25, "seed": 7},
}


def unfair(world):
    """Return applicants whose income tells their sex."""
    men = world.frame["sex"] == "M"
    assert 100 < men.sum() < 500
    return world.frame.assign(income=np.where(men, 100_000, 20_000))


def by_income(run, data):
    """Return a model that lends to the rich."""
    run.predictor(lambda frame: (frame["income"] > 50_000).astype(int))
    return fit_only(data)


def fit_only(data):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000).fit(data[["age"]], data["repaid"])


def train(guard, frame, body=by_income):
    return guard.training(ACTIVITY)(body)(guard.dataset("applicants")(lambda: frame)())


def test_a_model_that_fails_is_withheld(world, guard):
    got = []
    with pytest.raises(AuditFailed, match="no model is released"):
        got.append(train(guard, unfair(world)))
    assert got == []
    assert world.models() == []
    outcome = world.last("training.outcome")
    assert (outcome["outcome"], outcome["facts"]["fairness"]) == ("refused", "fail")
    assert "training.sealed" not in world.events()


def test_where_the_policy_says_report_it_is_released_and_the_failure_on_record(world):
    guard = world.alter(fairness={"on_fail": "report"}).guard()
    assert train(guard, unfair(world)) is not None
    assert world.last("training.outcome")["facts"]["fairness"] == "fail"
    assert world.models() == ["000001"]


def test_the_outcome_is_in_the_hands_of_an_activity_block(world, guard):
    handle = guard.dataset("applicants")(lambda: unfair(world))()
    with pytest.raises(AuditFailed), guard.activity(ACTIVITY) as run:
        run.release(by_income(run, run.open(handle)))
    [scan, audit] = run.outcomes
    assert (scan.verdict.value, audit.verdict.value) == ("pass", "fail")


def test_too_little_to_decide_is_no_pass(world, guard):
    few = world.frame.iloc[:80]
    with pytest.raises(InsufficientEvidence, match=r"fairness\.allow_insufficient"):
        train(guard, few, fit)
    assert world.models() == []
    assert world.last("training.outcome")["facts"]["fairness"] == "insufficient evidence"


def test_the_policy_may_let_it_through_and_it_is_on_record(world):
    guard = world.alter(fairness={"allow_insufficient": True}).guard()
    assert train(guard, world.frame.iloc[:80], fit) is not None
    assert world.last("training.outcome")["facts"]["fairness"] == "insufficient evidence"


def test_leave_for_little_evidence_is_no_leave_to_fail(world):
    guard = world.alter(fairness={"allow_insufficient": True}).guard()
    with pytest.raises(AuditFailed):
        train(guard, unfair(world))


# -- predictions -------------------------------------------------------------------------


def predicting(function):
    def body(run, data):
        run.predictor(function)
        return fit_only(data)

    return body


REFUSED = {
    "none": lambda f: [],
    "one short": lambda f: [1] * (len(f) - 1),
    "one more": lambda f: [1] * (len(f) + 1),
    "nothing": lambda f: None,
    "a number": lambda f: 1,
    "text": lambda f: "1" * len(f),
    "scores": lambda f: np.linspace(0, 1, len(f)),
    "pairs": lambda f: np.ones((len(f), 2)),
    "lists": lambda f: [[1, 0]] * len(f),
    "words where the label is a number": lambda f: ["yes"] * len(f),
    "other words": lambda f: np.where(f["income"] > 50_000, "yes", "no"),
    "a frame": lambda f: pd.DataFrame({"p": [1] * len(f)}),
    "a dictionary": lambda f: dict.fromkeys(range(len(f)), 1),
    "missing": lambda f: [float("nan")] * len(f),
    "unknown": lambda f: [None] * len(f),
    "three values": lambda f: [i % 3 for i in range(len(f))],
}


@pytest.mark.parametrize("function", REFUSED.values(), ids=REFUSED)
def test_predictions_that_cannot_be_counted_release_no_model(world, guard, function):
    with pytest.raises(ComplianceError):
        train(guard, world.frame, predicting(function))
    assert world.models() == []


ACCEPTED = {
    "list": lambda f: [1] * len(f),
    "array": lambda f: np.ones(len(f), dtype=int),
    "column": lambda f: np.ones((len(f), 1), dtype=int),
    "floats": lambda f: np.ones(len(f)),
    "booleans": lambda f: np.ones(len(f), dtype=bool),
    "series": lambda f: pd.Series([1] * len(f)),
    "tensor": lambda f: torch.ones(len(f), 1, requires_grad=True),
    "generator": lambda f: (1 for _ in range(len(f))),
}


@pytest.mark.parametrize("function", ACCEPTED.values(), ids=ACCEPTED)
def test_predictions_of_any_library_count_alike(world, guard, function):
    assert train(guard, world.frame, predicting(function)) is not None
    assert world.last("training.outcome")["facts"]["fairness"] == "pass"


def test_words_in_label_and_prediction_count_by_the_word_of_the_policy(world):
    guard = world.alter(fairness={"positive": "yes"}).guard()
    frame = unfair(world).assign(repaid=lambda f: np.where(f["repaid"] == 1, "yes", "no"))
    with pytest.raises(AuditFailed):
        train(guard, frame, predicting(lambda f: np.where(f["income"] > 50_000, "yes", "no")))
    with pytest.raises(ComplianceError):
        train(guard, frame, predicting(lambda f: (f["income"] > 50_000).astype(int)))


def test_the_result_s_own_predict_is_asked_where_no_predictor_is_named(world, guard):
    from sklearn.dummy import DummyClassifier

    def body(run, data):
        return DummyClassifier(strategy="constant", constant=1).fit(data[FEATURES], data["repaid"])

    assert train(guard, world.frame, body) is not None


def test_a_result_that_cannot_predict_is_not_released(world, guard):
    with pytest.raises(AuditFailed, match=r"run\.predictor"):
        train(guard, world.frame, lambda run, data: object())


def test_a_predictor_that_raises_releases_nothing(world, guard):
    with pytest.raises(ZeroDivisionError):
        train(guard, world.frame, predicting(lambda f: 1 / 0))
    assert world.models() == []


# -- what the audit needs is asked for before the body runs --------------------------------


@pytest.mark.parametrize("missing", ["repaid", "sex"])
def test_a_missing_column_is_an_error_before_the_body(world, guard, missing):
    ran = []
    with pytest.raises(InputError, match=f"'applicants' the columns {missing}"):
        train(guard, world.frame.drop(columns=missing), lambda run, data: ran.append(1))
    assert ran == []


def test_so_is_a_column_that_does_not_serve_the_purpose(world):
    guard = world.column("sex", purposes=["customer-support"]).guard()
    with pytest.raises(InputError, match="list them for the purpose 'credit-scoring'"):
        train(guard, world.frame, fit)


def test_so_are_too_few_rows(world, guard):
    with pytest.raises(InputError, match=r"rows\.share"):
        train(guard, world.frame.iloc[:1], fit)


@pytest.mark.parametrize("library", ["fairlearn", "scipy"])
def test_so_is_a_missing_library(world, guard, monkeypatch, library):
    import sys

    module = {"fairlearn": "fairlearn", "scipy": "scipy.special"}[library]
    monkeypatch.setitem(sys.modules, module, None)
    ran = []
    with pytest.raises(MissingExtra, match=r"compliance-toolkit\[fairness\]"):
        train(guard, world.frame, lambda run, data: ran.append(1))
    assert ran == []


def test_the_audit_is_checked_against_fairlearn(world, guard, monkeypatch):
    train(guard, world.frame, fit)
    assert world.last("training.outcome")["facts"]["fairness_fairlearn_figures"] > 0
    version, functions = reference._fairlearn()
    wrong = functions | {"selection_rate": lambda y_true, y_pred: 0.123}
    monkeypatch.setattr(reference, "_fairlearn", lambda: (version, wrong))
    with pytest.raises(IntegrityError):
        train(guard, world.frame, fit)


def test_a_body_that_opened_nothing_has_nothing_to_be_audited_on(world, guard):
    with pytest.raises(AuditFailed, match="nothing can be audited"):
        guard.training(ACTIVITY)(lambda run: object())()


def test_unregistered_rows_are_held_back_and_audited_like_any(world):
    guard = world.alter(unregistered="scan", fairness=RULE).guard()
    rows = world.frame[[*FEATURES, "sex", "repaid"]]
    seen = []
    guard.training(ACTIVITY)(lambda run, data: seen.append(len(data)) or fit(run, data))(rows)
    facts = world.last("training.outcome")["facts"]
    assert facts["fairness_n"] + seen[0] == 600
