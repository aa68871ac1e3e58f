"""The checks: each turns a source into outcomes, and lies about none."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.audit import checks
from compliance.config import shipped
from compliance.errors import InputError, PolicyError
from compliance.findings import Severity, Verdict
from compliance.policy import Policy

NORMS = {"four-fifths": Policy.load(shipped("policies")).norm("four-fifths")}
COLUMNS = {"label": "label", "prediction": "prediction", "sensitive": ["sex"], "norms": NORMS}


# -- the favourable value --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "positive"),
    [
        ([0, 1], 1),
        ([0.0, 1.0], 1.0),
        ([False, True], True),
        (["no", "yes"], "yes"),
        (["No", " Yes "], " Yes "),
        (["N", "Y"], "Y"),
        (["FALSE", "TRUE"], "TRUE"),
        (["0", "1"], "1"),
        ([1], 1),
    ],
)
def test_an_unmistakable_favourable_value_is_found_as_the_column_writes_it(seen, positive):
    found = checks._positive(None, seen)
    assert found == positive
    assert type(found) is type(positive)


@pytest.mark.parametrize(
    "seen", [[], [0], ["good", "bad"], ["yes", "y"], [1, "yes"], [2, 3], [1, "1"]]
)
def test_anything_else_is_asked_for(seen):
    with pytest.raises(InputError, match="--positive"):
        checks._positive(None, seen)


@pytest.mark.parametrize(
    ("given_value", "seen", "positive"),
    [
        ("1", [0, 1], 1),
        ("1", [0.0, 1.0], 1.0),
        ("1.0", [0, 1], 1),
        ("true", [False, True], True),
        ("1", [False, True], True),
        ("0", [False, True], False),
        (1, ["0", "1"], "1"),
        ("0", [0, 1], 0),
        ("bad", ["good", "bad"], "bad"),
        (True, ["no", "yes"], "yes"),  # what YAML makes of a bare yes
        (False, ["no", "yes"], "no"),
        (True, [0, 1], 1),
        (" >50K", [" >50K", " <=50K"], " >50K"),
    ],
)
def test_a_named_value_is_matched_as_it_was_typed(given_value, seen, positive):
    assert checks._positive(given_value, seen) is positive or (
        checks._positive(given_value, seen) == positive
    )


@pytest.mark.parametrize(
    ("given_value", "seen"),
    [("yes", [0, 1]), ("2", [0, 1]), ("Yes", ["no", "yes"]), (True, ["good"]), ("nan", [0.5, 1])],
)
def test_a_named_value_that_does_not_occur_is_refused(given_value, seen):
    with pytest.raises(InputError, match="occurs neither"):
        checks._positive(given_value, seen)


@given(st.lists(st.sampled_from([0, 1, "yes", "no", "a", "b", True, 2.5]), max_size=4))
def test_what_is_found_was_there(seen):
    try:
        assert checks._positive(None, seen) in seen
    except InputError:
        assert len({v for v in seen if v in (1, "yes")}) != 1


# -- fairness ----------------------------------------------------------------------------------------


def _file(folder, text, name="scored.csv"):
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_without_rows_is_insufficient_and_not_fair(tmp_path):
    outcome = checks.fairness(_file(tmp_path, "sex,label,prediction\n"), **COLUMNS)
    assert outcome.verdict is Verdict.INSUFFICIENT
    assert outcome.facts == {"rows": 0}


@pytest.mark.parametrize("wrong", ["lable", "nothing"])
def test_a_column_that_is_not_there_is_named_and_no_other_but_the_nearest(tmp_path, wrong):
    file = _file(tmp_path, "sex,label,prediction,Jane Doe\nf,1,1,x\n")
    with pytest.raises(InputError) as raised:
        checks.fairness(file, **COLUMNS | {"label": wrong})
    assert f"no column {wrong!r} among 4" in str(raised.value)
    assert ("'label'" in str(raised.value)) is (wrong == "lable")
    assert "Jane" not in str(raised.value)


def test_rows_without_a_label_are_told_and_not_counted_as_unfavourable(tmp_path):
    file = _file(tmp_path, "sex,label,prediction\nf,1,1\nf,0,0\nm,,1\n")
    with pytest.raises(InputError, match="1 of 3 rows have no value"):
        checks.fairness(file, **COLUMNS)


# -- PII ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["postgresql//u:hunter2@h/d", "u:hunter2@h"])
def test_a_mistyped_url_is_not_repeated(source):
    with pytest.raises(InputError) as raised:
        list(checks.pii(source, checks.PIIRule()))
    assert "hunter2" not in str(raised.value)


def test_a_file_with_an_at_sign_is_a_file(tmp_path):
    path = _file(tmp_path, "a\n1\n", "me@home.csv")
    [outcome] = checks.pii(str(path), checks.PIIRule())
    assert outcome.verdict is Verdict.PASS


# -- policy, models -------------------------------------------------------------------------------------


def test_the_shipped_policy_has_roles_without_members_only(tmp_path):
    outcome = checks.policy(shipped("policies"))
    assert outcome.verdict is Verdict.PASS
    assert {(f.severity, f.place.column) for f in outcome.findings} == {
        (Severity.LOW, "ml-engineer"), (Severity.LOW, "privacy-officer"), (Severity.LOW, "auditor"),
    }  # fmt: skip


def test_a_folder_without_a_policy_is_an_error_and_no_pass(tmp_path):
    with pytest.raises(PolicyError, match="compliance init"):
        checks.policy(tmp_path)


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([], Verdict.INSUFFICIENT),
        ([("a", "1", None), ("b", "1", None)], Verdict.PASS),
        ([("a", "1", None), ("a", "2", "the signature differs")], Verdict.FAIL),
    ],
)
def test_models_pass_only_when_there_are_some_and_all_are_sound(rows, verdict):
    outcome = checks.models(iter(rows))
    assert outcome.verdict is verdict
    faults = [(n, v, f) for n, v, f in rows if f]
    assert [(f.place.table, f.place.column, f.message) for f in outcome.findings] == faults
    assert {f.severity for f in outcome.findings} <= {Severity.CRITICAL}


def test_the_module_reads_no_environment():
    assert "environ" not in Path(checks.__file__).read_text()
