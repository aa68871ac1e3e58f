"""Story 1 in a notebook: an activity as a block."""

import pytest
from world import ACTIVITY, FEATURES, fit

from compliance.errors import AuditFailed, NotPrivate, UnregisteredData


def test_the_block_of_the_manual_works_as_written(guard, applicants):
    with guard.activity("credit-scoring") as run:
        data = run.open(applicants())
    assert "sex" not in data.columns


def test_a_block_that_releases_nothing_seals_nothing(world, guard, applicants):
    start = world.size()
    with guard.activity(ACTIVITY) as run:
        run.open(applicants())
    assert world.events(start) == [
        "activity.intent",
        "dataset.intent",
        "dataset.outcome",
        "activity.opened",
        "activity.outcome",
    ]
    assert world.models() == []


def test_what_a_block_releases_is_audited_and_sealed(world, guard, applicants):
    with guard.activity(ACTIVITY) as run:
        model = run.release(fit(run, run.open(applicants())))
    assert (
        guard.load(ACTIVITY).predict(world.frame[FEATURES]).tolist()
        == model.predict(world.frame[FEATURES]).tolist()
    )
    assert [o.verdict.value for o in run.outcomes] == ["pass", "pass"]


def test_a_block_that_releases_without_data_fails_its_audit(world, guard):
    with pytest.raises(AuditFailed), guard.activity(ACTIVITY) as run:
        run.release(object())
    assert world.models() == []


def test_a_block_that_raises_is_recorded_as_failed(world, guard, applicants):
    def notebook():
        with guard.activity(ACTIVITY) as run:
            run.release(fit(run, run.open(applicants())))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        notebook()
    assert world.last("activity.outcome")["outcome"] == "failed"
    assert world.models() == []


def test_a_block_under_a_norm_of_privacy_releases_no_other_model(strict):
    guard = strict.guard()
    rows = guard.dataset("applicants")(lambda: strict.frame)
    with pytest.raises(NotPrivate), guard.activity(ACTIVITY) as run:
        run.release(fit(run, run.open(rows())))
    assert strict.models() == []


def test_a_frame_of_one_block_is_a_stranger_in_the_next(guard, applicants):
    with guard.activity(ACTIVITY) as run:
        data = run.open(applicants())
    with guard.activity(ACTIVITY) as run, pytest.raises(UnregisteredData):
        run.open(data)


def test_blocks_nest_and_each_opens_for_itself(world, guard, applicants):
    with guard.activity(ACTIVITY) as outer:
        applicants()
        with guard.activity(ACTIVITY) as inner:
            applicants()
        applicants()
    opened = [e["call"] for e in world.entries() if e["event"] == "activity.opened"]
    assert opened == [outer.id, inner.id, outer.id]
