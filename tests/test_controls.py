"""One wrapper runs every control in phase order, and none of them can be passed by."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spies import KINDS, POLICY, Harness, Spy, body_of

from compliance.controls import DATA, Call, Opening, Phase, Pipeline, outcome_of
from compliance.errors import AccessDenied

BEFORE = [Phase.RECORD_INTENT, Phase.AUTHORISE, *DATA, Phase.RESERVE]
AFTER = [Phase.AUDIT, Phase.SETTLE, Phase.SEAL, Phase.RECORD_OUTCOME]


@pytest.fixture
def harness():
    return Harness()


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


# -- order -------------------------------------------------------------------------------


def test_controls_run_in_phase_order_around_the_body(harness, kind):
    function, run = body_of(kind, harness.log)
    run(harness(function))
    assert harness.log == [*BEFORE, Phase.BODY, *AFTER]


@given(st.permutations([phase for phase in Phase if phase is not Phase.BODY]))
def test_the_order_of_registration_does_not_matter(phases):
    log = []
    with Pipeline([Spy(phase, log) for phase in phases]).around(
        Call("training", "s", POLICY, None)
    ):
        log.append(Phase.BODY)
    assert log == [*BEFORE, Phase.BODY, *AFTER]


def test_controls_of_one_phase_run_as_they_were_registered():
    log = []
    first, second = Spy(Phase.SCAN, log), Spy(Phase.SCAN, log)
    order = []
    first.__class__ = type("First", (Spy,), {"__call__": lambda _s, _c: order.append(1)})
    second.__class__ = type("Second", (Spy,), {"__call__": lambda _s, _c: order.append(2)})
    Pipeline([first, second]).run(Call("training", "s", POLICY, None), Phase.SCAN)
    assert order == [1, 2]


# -- refusal ------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", BEFORE)
@pytest.mark.parametrize("error", [AccessDenied("no"), ZeroDivisionError(), KeyboardInterrupt()])
def test_the_body_never_runs_when_a_control_before_it_raises(kind, phase, error):
    harness = Harness({phase: error})
    function, run = body_of(kind, harness.log)
    with pytest.raises(type(error)):
        run(harness(function))
    assert Phase.BODY not in harness.log
    ran = BEFORE[: BEFORE.index(phase) + 1]
    outcome = [] if phase is Phase.RECORD_INTENT else [Phase.RECORD_OUTCOME]
    assert harness.log == [*ran, *outcome]


@pytest.mark.parametrize("error", [ValueError("x"), AccessDenied("no"), KeyboardInterrupt()])
def test_the_outcome_is_recorded_when_the_body_raises(kind, error):
    harness = Harness()
    function, run = body_of(kind, harness.log, error)
    with pytest.raises(type(error)):
        run(harness(function))
    assert harness.log == [*BEFORE, Phase.BODY, Phase.RECORD_OUTCOME]
    assert (harness.call.error, harness.call.result) == (error, None)


def test_a_failed_audit_still_settles_and_seals_nothing(kind):
    harness = Harness({Phase.AUDIT: AccessDenied("no")})
    function, run = body_of(kind, harness.log)
    with pytest.raises(AccessDenied):
        run(harness(function))
    assert harness.log[-3:] == [Phase.AUDIT, Phase.SETTLE, Phase.RECORD_OUTCOME]
    assert harness.call.result is None


@pytest.mark.parametrize("phase", [Phase.SETTLE, Phase.SEAL])
def test_what_fails_after_the_body_withholds_the_result(kind, phase):
    harness = Harness({phase: RuntimeError()})
    function, run = body_of(kind, harness.log)
    with pytest.raises(RuntimeError):
        run(harness(function))
    assert harness.log[-2:] == [phase, Phase.RECORD_OUTCOME]
    assert harness.call.result is None


@pytest.mark.parametrize("error", [None, ValueError("of the body")])
def test_an_outcome_that_cannot_be_recorded_replaces_result_and_error(kind, error):
    harness = Harness({Phase.RECORD_OUTCOME: RuntimeError("not recorded")})
    function, run = body_of(kind, harness.log, error)
    with pytest.raises(RuntimeError, match="not recorded"):
        run(harness(function))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (AccessDenied("no"), "refused"),
        (ValueError(), "failed"),
        (KeyboardInterrupt(), "failed"),
    ],
)
def test_an_outcome_tells_a_refusal_from_a_failure(error, outcome):
    assert outcome_of(Call("training", "s", POLICY, None, error=error)) == outcome


def test_a_control_may_replace_what_the_caller_gets(harness):
    class Replace:
        phase = Phase.SEAL

        def __call__(self, call):
            call.result = "sealed"

    harness.pipeline = Pipeline([Replace()])
    assert harness(lambda: "plain")() == ("delivered", "sealed")


# -- opening inside the body ----------------------------------------------------------------------------


def test_one_more_data_set_passes_the_data_phases_alone(harness):
    call = Call("training", "scoring", POLICY, None)
    harness.pipeline.open(call, opening := Opening("people", None))
    assert harness.log == list(DATA)
    assert (call.openings, call.fresh) == ([opening], [])


def test_a_data_set_that_is_refused_is_not_among_the_opened():
    harness = Harness({Phase.SCAN: AccessDenied("no")})
    call = Call("training", "scoring", POLICY, None)
    with pytest.raises(AccessDenied):
        harness.pipeline.open(call, Opening("people", None))
    assert call.openings == []
    assert [opening.dataset for opening in call.fresh] == ["people"]


def test_threads_that_open_at_once_each_pass_every_control():
    """A control reads the call's fresh openings: none may slip by while it looks at another."""

    class Mark:
        phase = Phase.MINIMISE

        def __call__(self, call):
            fresh = list(call.fresh)
            time.sleep(0.001)
            for opening in fresh:
                opening.facts["marked"] = True

    pipeline = Pipeline([Mark()])
    call = Call("training", "scoring", POLICY, None)
    openings = [Opening(f"d{number}", None) for number in range(16)]
    threads = [threading.Thread(target=pipeline.open, args=(call, one)) for one in openings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(opening.facts == {"marked": True} for opening in openings)
    assert sorted(o.dataset for o in call.openings) == sorted(o.dataset for o in openings)


# -- the call ---------------------------------------------------------------------------------------------


def test_a_data_set_read_outside_an_activity_has_no_purpose():
    assert Call("dataset", "people", POLICY, None).purpose is None
    assert Call("training", "scoring", POLICY, None).purpose == "lending"


def test_each_call_has_an_id_of_its_own():
    assert len({Call("training", "scoring", POLICY, None).id for _ in range(100)}) == 100
