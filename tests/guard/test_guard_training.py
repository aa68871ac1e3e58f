"""Story 1, the training layer: the order of the controls, and what the body never sees."""

import json

import pandas as pd
import pytest
from world import ACTIVITY, FEATURES, everybody, fit

from compliance import frames
from compliance.errors import AccessDenied, InputError, PurposeError, StoreError, UnregisteredData
from compliance.models.control import Seal
from compliance.trail.log import Trail


@pytest.fixture
def open_world(world):
    return world.alter(seal=False, remove=["fairness"])


def test_a_training_leaves_its_steps_in_order_and_a_sealed_model(world, guard, applicants):
    start = world.size()
    model = guard.training(ACTIVITY)(fit)(applicants())
    assert world.events(start) == [
        "dataset.intent",
        "dataset.outcome",
        "training.intent",
        "training.opened",
        "training.sealed",
        "training.outcome",
    ]
    assert world.models() == ["000001"]
    assert model.predict(world.frame[FEATURES]).shape == (600,)
    assert world.verified()


def test_the_entries_of_a_run_say_who_what_why_and_under_which_policy(world, guard, applicants):
    guard.training(ACTIVITY)(fit)(applicants())
    run = [e for e in world.entries() if e["activity"] == ACTIVITY]
    assert len({e["call"] for e in run}) == 1
    assert {(e["actor"], e["method"], e["purpose"], e["policy"]) for e in run} == {
        ("ada", "asserted", ACTIVITY, guard.policy.digest)
    }
    facts = world.last("training.outcome")["facts"]
    assert facts["fairness"] == "pass"
    assert facts["model_version"] == "000001"


def test_role_consent_purpose_scan_are_recorded_before_the_body_sees_a_row(
    world, guard, applicants
):
    def body(run, data):
        assert world.events()[-2:] == ["training.intent", "training.opened"]
        return fit(run, data)

    assert guard.training(ACTIVITY)(body)(applicants()) is not None


def test_without_the_role_nothing_is_opened(world, applicants):
    stranger = world.guard("mallory")
    handle, start = applicants(), world.size()
    with pytest.raises(AccessDenied):
        stranger.training(ACTIVITY)(fit)(handle)
    assert world.events(start) == ["training.intent", "training.outcome"]


# -- what the body never sees ------------------------------------------------------------


def test_audit_only_columns_and_audit_rows_are_away_from_the_body(world, guard, applicants):
    seen, asked = [], []

    def body(run, data):
        seen.append(data)
        model = fit(run, data)
        run.predictor(lambda frame: asked.append(frame) or everybody(model, frame))
        return model

    guard.training(ACTIVITY)(body)(applicants())
    [data], [features] = seen, asked
    assert "sex" not in data.columns
    assert not {"sex", "repaid", "name", "email"} & set(features.columns)
    assert not set(data["customer_id"]) & set(features["customer_id"])
    assert len(data) + len(features) == len(world.consented())
    assert 0.15 < len(features) / len(world.consented()) < 0.35


def test_all_rows_of_a_person_fall_on_one_side(world):
    guard = world.guard()
    double = pd.concat([world.frame, world.frame.assign(amount=1_000)], ignore_index=True)
    sides = []

    def body(run, data):
        sides.append(set(data["customer_id"]))
        model = fit(run, data)
        run.predictor(lambda f: sides.append(set(f["customer_id"])) or everybody(model, f))
        return model

    guard.training(ACTIVITY)(body)(guard.dataset("applicants")(lambda: double)())
    assert not sides[0] & sides[1]


def test_the_rows_held_back_are_the_same_however_often_and_in_whatever_order(world, guard):
    order = {"key": 0}

    @guard.dataset("applicants")
    def applicants():
        order["key"] += 1
        return world.frame.sample(frac=1, random_state=order["key"])

    with guard.activity(ACTIVITY):
        assert set(applicants()["customer_id"]) == set(applicants()["customer_id"])


def test_without_a_subject_too(world):
    norms = world.norms("datasets")
    norms["datasets"]["applicants"].pop("subject")
    world.write("datasets", norms)
    guard = world.guard()
    with guard.activity(ACTIVITY) as run:
        first = run.open(guard.dataset("applicants")(lambda: world.frame)())
        shuffled = run.open(
            guard.dataset("applicants")(lambda: world.frame.sample(frac=1, random_state=1))()
        )
    assert 0 < len(first) < 600
    assert set(first["customer_id"]) == set(shuffled["customer_id"])


def test_opening_twice_makes_no_second_witness_of_the_audit(world, guard, applicants):
    def body(run, one, two):
        run.open(applicants_again())
        return fit(run, one)

    applicants_again = guard.dataset("applicants")(lambda: world.frame)
    handle = applicants()
    guard.training(ACTIVITY)(fit)(handle)
    once = world.last("training.outcome")["facts"]["fairness_n"]
    guard.training(ACTIVITY)(body)(handle, handle)
    assert world.last("training.outcome")["facts"]["fairness_n"] == once


# -- a second data set for the audit ------------------------------------------------------


@pytest.fixture
def split(world):
    """Return a world that trains on the first 400 applicants and audits on the others."""
    world.dataset("applicants-test")
    return world.alter(fairness={"rows": {"dataset": "applicants-test"}})


def register(world, guard):
    train = guard.dataset("applicants")(lambda: world.frame.iloc[:400])
    test = guard.dataset("applicants-test")(lambda: world.frame.iloc[400:])
    return train, test


def test_the_audit_runs_on_the_data_set_the_policy_names(split):
    guard = split.guard()
    train, _ = register(split, guard)
    seen = []
    guard.training(ACTIVITY)(lambda run, data: seen.append(data) or fit(run, data))(train())
    assert seen[0]["customer_id"].isin(split.frame["customer_id"][:400]).all()
    opened = {e["dataset"]: e["facts"] for e in split.entries() if e["event"] == "training.opened"}
    assert opened["applicants-test"]["audit_only"] is True
    assert opened["applicants-test"]["rows_for_body"] == 0
    assert opened["applicants"]["rows_held_for_audit"] == 0
    kept = len(set(map(str, split.frame["customer_id"][400:])) & split.consented())
    assert split.last("training.outcome")["facts"]["fairness_n"] == kept


def test_the_body_cannot_open_the_data_set_of_the_audit(split):
    guard = split.guard()
    train, test = register(split, guard)
    closed = test()
    for attempt in (lambda run: run.open(closed), lambda run: test()):
        with pytest.raises(PurposeError):
            guard.training(ACTIVITY)(lambda run, data, attempt=attempt: attempt(run))(train())
    with pytest.raises(PurposeError):
        guard.training(ACTIVITY)(fit)(test())


def test_not_even_where_the_activity_names_it(split):
    guard = split.alter(datasets=["applicants", "applicants-test"]).guard()
    _, test = register(split, guard)
    with pytest.raises(PurposeError, match="its body may not see it"):
        guard.training(ACTIVITY)(fit)(test())


def test_an_audit_data_set_that_nobody_registered_is_an_error_before_the_body(split):
    guard = split.guard()
    train = guard.dataset("applicants")(lambda: split.frame)
    ran = []
    with pytest.raises(PurposeError, match=r"@guard\.dataset\('applicants-test'\)"):
        guard.training(ACTIVITY)(lambda run, data: ran.append(1))(train())
    assert ran == []


async def coroutine():
    """Load nothing."""


def generator():
    yield 1


@pytest.mark.parametrize("loader", [coroutine, generator, lambda path: None])
def test_an_audit_data_set_that_cannot_simply_be_called_is_an_error_before_the_body(split, loader):
    guard = split.guard()
    train, _ = register(split, guard)
    guard.dataset("applicants-test")(loader)
    with pytest.raises(InputError, match="plain function that can be called without arguments"):
        guard.training(ACTIVITY)(fit)(train())


# -- failures ----------------------------------------------------------------------------


def test_a_body_that_raises_releases_nothing_and_its_text_stays_out_of_the_trail(
    world, guard, applicants
):
    def body(run, data):
        raise ValueError("customer Ada Lovelace, ada@example.com")

    with pytest.raises(ValueError, match="Ada"):
        guard.training(ACTIVITY)(body)(applicants())
    outcome = world.last("training.outcome")
    assert (outcome["outcome"], outcome["facts"]["error"]) == ("failed", "ValueError")
    assert "Lovelace" not in json.dumps(world.entries())
    assert world.models() == []


def test_an_interrupt_is_recorded_too(world, guard, applicants):
    def body(run, data):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guard.training(ACTIVITY)(body)(applicants())
    assert world.last("training.outcome")["facts"]["error"] == "KeyboardInterrupt"


def failing(monkeypatch, event):
    """Make the trail fail at one event, once the guard is up."""
    appended = Trail.append_in

    def append_in(self, connection, *events):
        if any(e.event == event for e in events):
            raise StoreError("the disk is full")
        return appended(self, connection, *events)

    monkeypatch.setattr(Trail, "append_in", append_in)


@pytest.mark.parametrize("event", ["training.intent", "training.opened"])
def test_where_the_trail_cannot_be_written_the_body_does_not_run(
    world, guard, applicants, monkeypatch, event
):
    handle, ran = applicants(), []
    failing(monkeypatch, event)
    with pytest.raises(StoreError):
        guard.training(ACTIVITY)(lambda run, data: ran.append(1))(handle)
    assert ran == []


@pytest.mark.parametrize("event", ["training.sealed", "training.outcome"])
def test_where_the_end_cannot_be_written_nothing_is_released(
    world, guard, applicants, monkeypatch, event
):
    handle, train = applicants(), guard.training(ACTIVITY)(fit)
    train(handle)
    with monkeypatch.context() as patch:
        failing(patch, event)
        with pytest.raises(StoreError):
            train(handle)
    assert world.models() == ["000001", "000002"]
    assert guard.fetch(ACTIVITY)[1].version == "000001"


def test_where_the_opening_cannot_be_written_run_open_gives_nothing(guard, applicants, monkeypatch):
    handle = applicants()
    with guard.activity(ACTIVITY) as run:
        with monkeypatch.context() as patch:
            failing(patch, "activity.opened")
            with pytest.raises(StoreError):
                run.open(handle)
        assert len(run.open(handle)) > 0


@pytest.mark.parametrize("event", ["dataset.intent", "dataset.outcome"])
def test_a_data_set_whose_reading_cannot_be_recorded_is_not_delivered(
    world, guard, applicants, monkeypatch, event
):
    failing(monkeypatch, event)
    with pytest.raises(StoreError):
        applicants()


def test_a_broken_control_keeps_the_model_in(world, guard, applicants, monkeypatch):
    def broken(self, call):
        raise RuntimeError

    monkeypatch.setattr(Seal, "__call__", broken)
    with pytest.raises(RuntimeError):
        guard.training(ACTIVITY)(fit)(applicants())
    assert world.last("training.outcome")["outcome"] == "failed"


# -- nothing personal --------------------------------------------------------------------


def test_no_personal_value_is_in_the_database_after_all_of_it(world, guard, applicants, caplog):
    train = guard.training(ACTIVITY)(fit)
    train(applicants())
    with pytest.raises(UnregisteredData):
        train(world.frame)
    with pytest.raises(ZeroDivisionError):
        guard.training(ACTIVITY)(lambda run, data: 1 / 0)(applicants())

    @guard.decision(ACTIVITY)
    def decide(run, rows):
        return run.model().predict(rows[FEATURES])

    decide(applicants())
    guard.store.close()
    files = [p for p in (world.folder / ".compliance").rglob("*") if p.is_file()]
    stored = b"\n".join(p.read_bytes() for p in files) + caplog.text.encode()
    values = frames.records(frames.wrap(world.frame[["name", "email"]]))
    found = [v for row in values for v in row.values() if v and v.encode() in stored]
    assert found == []
    assert b"training.outcome" in stored
