"""A plan has one exit code, and it cannot lie."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.audit import runner
from compliance.audit.plan import Plan
from compliance.config import shipped
from compliance.errors import ConfigurationError, InputError, IntegrityError, StoreError
from compliance.findings import Finding, Outcome, Place, Severity, Verdict
from compliance.policy import Policy


def _outcome(verdict=Verdict.PASS, *findings):
    made = tuple(Finding(check, level, "m", Place("s")) for check, level in findings)
    return Outcome("pii.column", "t", verdict, "s", made)


LOW, HIGH = ("pii.column", Severity.LOW), ("pii.column", Severity.HIGH)
UNREAD, BROKEN = ("pii.unread", Severity.MEDIUM), ("audit.unfinished", Severity.MEDIUM)
FAIL, PASS, UNKNOWN = Verdict.FAIL, Verdict.PASS, Verdict.INSUFFICIENT


@pytest.mark.parametrize(
    ("outcomes", "code", "allowed"),
    [
        ([], 3, 0),
        ([_outcome()], 0, 0),
        ([_outcome(UNKNOWN)], 3, 0),
        ([_outcome(), _outcome(UNKNOWN)], 3, 0),
        ([_outcome(FAIL, HIGH)], 1, 1),
        ([_outcome(FAIL, LOW)], 0, 0),
        ([_outcome(UNKNOWN, HIGH)], 1, 1),
        ([_outcome(UNKNOWN, UNREAD)], 4, 4),
        ([_outcome(UNKNOWN, BROKEN), _outcome()], 4, 4),
        ([_outcome(UNKNOWN, UNREAD), _outcome(FAIL, HIGH)], 1, 1),
        ([_outcome(UNKNOWN, UNREAD), _outcome(FAIL, LOW)], 4, 4),
    ],
)
def test_what_was_found_outweighs_what_was_unread_and_both_what_was_too_little(
    outcomes, code, allowed
):
    assert runner.exit_code(outcomes, Severity.MEDIUM) == code
    assert runner.exit_code(outcomes, Severity.MEDIUM, allow_insufficient=True) == allowed


_findings = st.sampled_from([LOW, HIGH, UNREAD, BROKEN])
_outcomes = st.lists(
    st.builds(
        lambda v, f: _outcome(v, *f),
        st.sampled_from(list(Verdict)),
        st.lists(_findings, max_size=3),
    ),
    max_size=5,
)


@given(_outcomes, st.randoms())
def test_the_order_of_the_checks_does_not_matter(outcomes, random):
    shuffled = random.sample(outcomes, len(outcomes))
    assert runner.exit_code(shuffled, Severity.LOW) == runner.exit_code(outcomes, Severity.LOW)


@given(_outcomes, _outcomes)
def test_more_evidence_of_a_fault_never_makes_a_run_pass(some, more):
    """Only an empty run may improve: it was no evidence at all."""
    before = runner.exit_code(some, Severity.LOW)
    after = runner.exit_code([*some, *more], Severity.LOW)
    assert before == 0 or after != 0 or not some


@given(_outcomes)
def test_a_stricter_threshold_never_finds_less(outcomes):
    codes = [runner.exit_code(outcomes, level) for level in sorted(Severity)]
    assert codes == sorted(codes, key=lambda code: code != runner.FINDINGS)


# -- what breaks off ---------------------------------------------------------------------------------


def _until(error):
    yield _outcome()
    raise error


def test_what_came_before_a_broken_check_is_kept():
    first, last = runner.gathered(_until(StoreError("db: no answer")), "pii")
    assert first == _outcome()
    assert (last.check, last.verdict) == ("audit.unfinished", Verdict.INSUFFICIENT)
    assert "db: no answer" in last.summary


@pytest.mark.parametrize("kind", [InputError, IntegrityError, RuntimeError])
def test_other_errors_end_the_run(kind):
    with pytest.raises(kind):
        runner.gathered(_until(kind("x")), "pii")


# -- sources ------------------------------------------------------------------------------------------


def test_a_source_is_a_path_under_the_root_a_url_or_the_environment_s(tmp_path, monkeypatch):
    monkeypatch.setenv("EXPORTS", "sqlite:///secret.db")
    assert runner.source_of("data/x.csv", tmp_path) == str(tmp_path / "data/x.csv")
    assert runner.source_of("/data/x.csv", tmp_path) == "/data/x.csv"
    assert runner.source_of("sqlite:///x.db", tmp_path) == "sqlite:///x.db"
    assert runner.source_of("env:EXPORTS", tmp_path) == "sqlite:///secret.db"


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set_is_an_error_and_not_the_working_directory(monkeypatch, value):
    monkeypatch.delenv("EXPORTS", raising=False)
    if value is not None:
        monkeypatch.setenv("EXPORTS", value)
    with pytest.raises(ConfigurationError, match="EXPORTS"):
        runner.source_of("env:EXPORTS")


# -- plans ---------------------------------------------------------------------------------------------


def test_only_what_a_plan_names_is_opened(tmp_path):
    (tmp_path / "x.yaml").write_text("title: T\nchecks: [{check: policy}, {check: models}]\n")
    asked = []
    world = runner.World(
        root=tmp_path,
        policies=shipped("policies"),
        policy=Policy.load(shipped("policies")),
        trail=lambda: pytest.fail("the plan has no such check"),
        models=lambda: asked.append("models") or iter([("m", "1", None)]),
    )
    outcomes = runner.run(Plan.load("x", tmp_path), world)
    assert [o.check for o in outcomes] == ["policy.check", "model.verify"]
    assert asked == ["models"]


def test_progress_reaches_the_checks(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").write_text("a\n1\n")
    (tmp_path / "x.yaml").write_text("title: T\nchecks: [{check: pii, source: data}]\n")
    seen = []
    world = runner.World(
        tmp_path, tmp_path, SimpleNamespace(), pytest.fail, pytest.fail,
        progress=lambda done, total, _what: seen.append((done, total)),
    )  # fmt: skip
    runner.run(Plan.load("x", tmp_path), world)
    assert seen == [(0, 1), (1, 1)]
