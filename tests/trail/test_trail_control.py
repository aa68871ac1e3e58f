"""The trail's two controls: an intent before anything, exactly one outcome after."""

import numpy as np
import pytest

from compliance.access.identity import Identity
from compliance.controls import Call, Opening, Phase, Pipeline
from compliance.errors import AccessDenied, InputError
from compliance.policy import Activity, Method, Policy
from compliance.trail.control import RecordIntent, RecordOpened, RecordOutcome, event_of, fact

POLICY = Policy(activities={"scoring": Activity(purpose="lending", datasets=())}, digest="d" * 64)
WHO = Identity("ana", Method.OS, "svc", on_behalf_of="ben")


@pytest.fixture
def call():
    return Call("training", "scoring", POLICY, WHO)


@pytest.fixture
def pipeline(trail):
    return Pipeline([RecordOutcome(trail), RecordIntent(trail)])


def written(trail):
    return [entry.values for entry in trail.read()]


def test_intent_and_outcome_share_the_call_the_identity_and_the_digest(trail, call, pipeline):
    with pipeline.around(call):
        assert [values["event"] for values in written(trail)] == ["training.intent"]
    intent, outcome = written(trail)
    assert (intent["outcome"], outcome["outcome"]) == (None, "ok")
    for values in (intent, outcome):
        assert values["call"] == call.id
        assert (values["actor"], values["method"], values["account"]) == ("ana", "os", "svc")
        assert (values["on_behalf_of"], values["activity"], values["purpose"]) == (
            "ben",
            "scoring",
            "lending",
        )
        assert values["policy"] == "d" * 64


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (AccessDenied("no"), "refused"),
        (ZeroDivisionError("Jane"), "failed"),
        (KeyboardInterrupt(), "failed"),
    ],
)
def test_an_error_is_recorded_by_its_kind_and_never_by_its_text(
    trail, call, pipeline, error, outcome
):
    with pytest.raises(type(error)), pipeline.around(call):
        raise error
    last = written(trail)[-1]
    assert (last["outcome"], last["facts"]["error"]) == (outcome, type(error).__name__)
    assert b"Jane" not in [entry.body for entry in trail.read()][-1]


def test_an_opening_is_recorded_before_the_body_has_it(trail, call):
    call.fresh = [Opening("people", None, facts={"rows": 3})]
    with Pipeline([RecordOpened(trail)]).around(call):
        (opened,) = written(trail)
    assert (opened["event"], opened["dataset"]) == ("training.opened", "people")
    assert opened["facts"] == {"rows": 3, "audit_only": False}


def test_an_opening_that_was_refused_is_recorded_as_refused(trail, call, pipeline):
    call.openings = [Opening("people", None)]
    call.fresh = [Opening("secrets", None, audits=True)]
    pipeline.run(call, Phase.RECORD_OUTCOME)
    refused, outcome = written(trail)
    assert (refused["event"], refused["dataset"]) == ("training.refused", "secrets")
    assert refused["facts"] == {"audit_only": True}
    assert outcome["event"] == "training.outcome"


def test_a_data_set_call_has_a_data_set_and_no_activity(call):
    call.kind = "dataset"
    event = event_of(call, "intent")
    assert (event.dataset, event.activity, event.purpose) == ("scoring", None, None)


def test_an_outcome_that_cannot_be_recorded_replaces_the_result(trail, call, pipeline):
    with pytest.raises(InputError), pipeline.around(call):
        call.facts["bad"] = object()
    assert [values["event"] for values in written(trail)] == ["training.intent"]


def test_figures_with_a_fraction_travel_as_text():
    assert [fact(0.1), fact(np.float64(0.5)), fact(3), fact(None), fact("x")] == [
        "0.1",
        "0.5",
        3,
        None,
        "x",
    ]


def test_the_phases_are_the_first_and_the_last():
    assert (RecordIntent.phase, RecordOutcome.phase) == (min(Phase), max(Phase))
