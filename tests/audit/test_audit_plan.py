"""Plans are data: read strictly, and wrong ones name the place."""

import pytest

from compliance.audit.plan import Plan
from compliance.config import shipped
from compliance.errors import PolicyError
from compliance.policy import Policy


def _plan(folder, text, name="mine"):
    (folder / f"{name}.yaml").write_text(text)
    return Plan.load(name, folder)


@pytest.mark.parametrize("path", sorted(shipped("audits").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_plan_is_sound_and_names_norms_that_are_there(path):
    plan = Plan.load(path.stem, path.parent)
    policy = Policy.load(shipped("policies"))
    assert plan.title
    assert [policy.norm(name).metric for name in plan.norms()] == (
        ["demographic_parity_ratio"] if path.stem == "before-a-model-ships" else []
    )


def test_a_plan_is_found_by_name_or_by_path(tmp_path):
    plan = _plan(tmp_path, "title: T\nchecks: [{check: trail}]\n")
    assert Plan.load(str(tmp_path / "mine.yaml"), tmp_path / "elsewhere") == plan
    assert (plan.fail_on, [c.check for c in plan.checks]) == ("medium", ["trail"])


def test_an_unknown_plan_lists_those_there_are(tmp_path):
    _plan(tmp_path, "title: T\nchecks: [{check: trail}]\n", "nightly")
    with pytest.raises(PolicyError, match="did you mean 'nightly'"):
        Plan.load("nigthly", tmp_path)
    with pytest.raises(PolicyError, match="known: nightly"):
        Plan.load("weekly", tmp_path)
    with pytest.raises(PolicyError, match="none is defined"):
        Plan.load("nightly", tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("title: T\nchecks:\n  - {check: trail}\n  - {check: trial}\n", 4),
        ("title: T\nchecks:\n  - {check: trail, source: x}\n", 3),
        ("title: T\nchecks:\n  - check: pii\n", 3),
        ("title: T\nfail_on: serious\nchecks: [{check: trail}]\n", 2),
        (
            "title: T\nchecks:\n  - {check: fairness, source: a, label: b, prediction: c, sensitive: []}\n",
            3,
        ),
        ("title: T\ntitle: U\nchecks: [{check: trail}]\n", 2),
        ("title: T\nchecks:\n  - check: pii\n    source: x\n    rule: {sampel: 5}\n", 5),
    ],
)
def test_a_wrong_plan_names_its_line(tmp_path, text, line):
    with pytest.raises(PolicyError, match=rf"mine\.yaml:{line}: "):
        _plan(tmp_path, text)


def test_a_plan_is_frozen(tmp_path):
    plan = _plan(tmp_path, "title: T\nchecks: [{check: trail}]\n")
    with pytest.raises(ValueError, match="frozen"):
        plan.fail_on = "critical"
