"""Story 1, decisions: by the sealed model alone, about those who did not opt out, and counted."""

import numpy as np
import pandas as pd
import pytest
import torch
from world import ACTIVITY, FEATURES, OFFICER, fit

from compliance.errors import ConsentMissing, InputError, ModelRejected, NotPrivate, Refused


@pytest.fixture
def model(guard, applicants):
    return guard.training(ACTIVITY)(fit)(applicants())


def by_model(run, rows):
    decided = run.model().predict(rows[FEATURES])
    return pd.Series(decided, index=rows["customer_id"])


@pytest.fixture
def decide(guard, model):
    return guard.decision(ACTIVITY)(by_model)


def test_a_decision_is_taken_recorded_and_counted(world, decide, applicants):
    start = world.size()
    decisions = decide(applicants())
    assert world.events(start)[2:] == ["decision.intent", "decision.opened", "decision.outcome"]
    facts = world.last("decision.outcome")["facts"]
    assert facts["decisions"] == len(decisions) == len(world.consented())
    assert facts["positive"] == int(decisions.sum())
    assert facts["model_version"] == "000001"


def test_the_counts_by_group_add_up(world, decide, applicants):
    decisions = decide(applicants())
    facts = world.last("decision.outcome")["facts"]
    sexes = world.frame.set_index("customer_id")["sex"][decisions.index]
    for sex in ("F", "M"):
        chosen = decisions[(sexes == sex).to_numpy()]
        assert facts[f"sex={sex}"] == f"{int(chosen.sum())}/{len(chosen)}"


def test_new_applicants_have_no_label_and_are_counted_by_group_all_the_same(world, guard, model):
    fresh = guard.dataset("applicants")(lambda: world.frame.drop(columns="repaid"))
    guard.decision(ACTIVITY)(by_model)(fresh())
    assert {"sex=F", "sex=M"} <= world.last("decision.outcome")["facts"].keys()


def test_the_body_sees_neither_label_nor_audit_only_columns(guard, model, applicants):
    seen = []
    guard.decision(ACTIVITY)(lambda run, rows: seen.extend(rows.columns) or by_model(run, rows))(
        applicants()
    )
    assert not {"repaid", "sex", "name", "email"} & set(seen)


def test_who_opted_out_is_not_decided_about(world, decide, applicants):
    handle = applicants()
    out = [int(who) for who in decide(handle).index[:3]]
    world.guard(OFFICER).consent(
        "opted-out", out, purpose="automated-decisions", subject_type="customer"
    )
    decided = decide(handle)
    assert not set(out) & set(decided.index)
    assert world.last("decision.opened")["facts"]["rows_opted_out"] == 3
    everyone = sorted(world.consented())
    world.guard(OFFICER).consent(
        "opted-out", everyone, purpose="automated-decisions", subject_type="customer"
    )
    with pytest.raises(ConsentMissing):
        decide(handle)


def test_an_opt_out_of_decisions_is_none_of_training(world, guard, model, applicants):
    everyone = sorted(world.consented())
    world.guard(OFFICER).consent(
        "opted-out", everyone, purpose="automated-decisions", subject_type="customer"
    )
    assert guard.training(ACTIVITY)(fit)(applicants()) is not None


# -- the sealed model, or nothing ----------------------------------------------------------


def test_a_decision_that_never_asked_for_the_sealed_model_is_refused(
    world, guard, model, applicants
):
    got = []
    with pytest.raises(Refused, match=r"run\.model\(\)"):
        got.append(guard.decision(ACTIVITY)(lambda run, rows: [1] * len(rows))(applicants()))
    assert got == []
    assert world.last("decision.outcome")["outcome"] == "refused"


def test_a_model_from_the_caller_is_refused(guard, model, applicants):
    decide = guard.decision(ACTIVITY)(lambda run, rows, model: model.predict(rows[FEATURES]))
    for other in (model, torch.nn.Linear(1, 1), model.predict):
        with pytest.raises(Refused, match=r"run\.model\(\)"):
            decide(applicants(), other)


def test_without_a_sealed_model_there_is_no_decision(guard, applicants):
    with pytest.raises(InputError, match="there is no model"):
        guard.decision(ACTIVITY)(by_model)(applicants())


def test_a_tampered_model_decides_nothing(world, decide, applicants):
    path = world.folder / ".compliance" / "models" / ACTIVITY / "000001" / "model.sealed"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelRejected):
        decide(applicants())
    assert world.last("decision.outcome")["facts"]["error"] == "ModelRejected"


def test_an_older_version_may_be_asked_for_and_is_named(world, guard, model, applicants):
    guard.training(ACTIVITY)(fit)(applicants())
    guard.decision(ACTIVITY)(lambda run, rows: run.model(version="000001").predict(rows[FEATURES]))(
        applicants()
    )
    assert world.last("decision.outcome")["facts"]["model_version"] == "000001"


def test_a_decision_trains_nothing_private_for_it_reserves_nothing(strict):
    guard = strict.guard()
    rows = guard.dataset("applicants")(lambda: strict.frame)
    with pytest.raises(NotPrivate, match="reserves no budget"):
        guard.decision(ACTIVITY)(lambda run, rows: run.private(torch.nn.Linear(1, 1)))(rows())


# -- counting --------------------------------------------------------------------------------


def deciding(guard, result):
    return guard.decision(ACTIVITY)(lambda run, rows: run.model() and result(rows))


@pytest.mark.parametrize("result", [lambda r: [1], lambda r: [], lambda r: [1] * (len(r) + 1)])
def test_a_row_without_its_decision_is_an_error(world, guard, model, applicants, result):
    with pytest.raises(InputError, match=r"decisions for \d+ rows"):
        deciding(guard, result)(applicants())


REFUSED = {
    "nothing": lambda r: None,
    "one number": lambda r: 1,
    "scores": lambda r: np.linspace(0, 1, len(r)),
    "words": lambda r: ["yes"] * len(r),
    "pairs": lambda r: np.ones((len(r), 2)),
    "rows": lambda r: r.to_numpy().tolist(),
    "a frame": lambda r: r,
    "missing": lambda r: [float("nan")] * len(r),
    "text": lambda r: "1" * len(r),
}


@pytest.mark.parametrize("result", REFUSED.values(), ids=REFUSED)
def test_what_is_no_decision_is_not_handed_out(world, guard, model, applicants, result):
    got = []
    with pytest.raises(InputError):
        got.append(deciding(guard, result)(applicants()))
    assert got == []


@pytest.mark.parametrize(
    "result", [lambda r: r.to_numpy().tolist(), lambda r: [{"name": 1}] * len(r)]
)
def test_without_an_audit_rule_rows_are_no_decisions_either(world, guard, model, result):
    guard = world.alter(remove=["fairness"]).guard()
    handle = guard.dataset("applicants")(lambda: world.frame)()
    with pytest.raises(InputError, match="one value for each row"):
        deciding(guard, result)(handle)


def test_small_groups_are_pooled_and_missing_groups_named(world, guard, model):
    frame = world.frame
    agreed = frame.index[frame["customer_id"].astype(str).isin(world.consented())]
    frame.loc[agreed[:3], "sex"] = "X"
    frame.loc[agreed[3:23], "sex"] = None
    guard.decision(ACTIVITY)(by_model)(guard.dataset("applicants")(lambda: frame)())
    facts = world.last("decision.outcome")["facts"]
    assert "sex=X" not in facts
    assert facts["sex=(groups below 5)"].endswith("/3")
    assert facts["sex=(unknown)"].endswith("/20")


def test_a_sensitive_column_that_names_people_is_not_spelled_out(world, guard, model):
    frame = world.frame.assign(sex=lambda f: f["name"])
    guard = world.alter(pii={"action": "allow"}).guard()
    guard.decision(ACTIVITY)(by_model)(guard.dataset("applicants")(lambda: frame)())
    facts = world.last("decision.outcome")["facts"]
    assert facts["sex_groups"] > 50
    assert not any(name.startswith("sex=") for name in facts)
