"""``compliance policy``: a wrong norm names its file, its line and the nearest valid key."""

import json
import re
import subprocess

import pytest

from compliance.policy import Policy


def test_a_sound_policy_passes_and_tells_its_digest(cli, project):
    answer = cli("policy", "check", "-f", "json")
    document = json.loads(answer.out)
    assert (answer.code, answer.err) == (0, "Policy check: pass, 0 findings\n")
    assert document["outcomes"][0]["facts"]["digest"] == Policy.load(project / "policies").digest


def test_an_auditor_gets_the_same_digest_without_us(cli, project):
    shell = "LC_ALL=C; sha256sum *.yaml | sha256sum"
    theirs = subprocess.run(
        ["sh", "-c", shell], cwd=project / "policies", capture_output=True, text=True, check=True
    )
    assert json.loads(cli("policy", "show").out)["digest"] == theirs.stdout.split()[0]


TYPOS = [
    ("roles.yaml", "    members: [", "    membres: [", "membres", "members"),
    ("purposes.yaml", "basis: consent", "basiss: consent", "basiss", "basis"),
    ("budgets.yaml", "epsilon:", "epsilom:", "epsilom", "epsilon"),
    ("thresholds.yaml", "at_least:", "atleast:", "atleast", "at_least"),
    ("datasets.yaml", "subject_type:", "subjecttype:", "subjecttype", "subject_type"),
]


@pytest.mark.parametrize(("name", "right", "wrong", "key", "nearest"), TYPOS)
def test_a_typo_names_file_line_and_the_nearest_key(cli, project, name, right, wrong, key, nearest):
    path = project / "policies" / name
    path.write_text(path.read_text().replace(right, wrong, 1))
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if wrong in text)
    for command in (("policy", "check"), ("policy", "show"), ("trail", "list"), ("keys", "list")):
        answer = cli(*command)
        assert (answer.code, answer.out) == (2, "")
        assert f"{path}:{line}: " in answer.err
        assert f"did you mean {nearest!r}?" in answer.err
    assert not (project / ".compliance").exists()


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("activities.yaml", "purpose: credit-scoring", "purpose: credit-scorin"),
        ("activities.yaml", "datasets: [applicants]", "datasets: [applicant]"),
        ("budgets.yaml", "dataset: applicants", "dataset: aplicants"),
    ],
)
def test_a_name_that_refers_to_nothing_is_a_2(cli, project, name, right, wrong):
    path = project / "policies" / name
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong))
    answer = cli("policy", "check")
    assert (answer.code, answer.out) == (2, "")
    assert name in answer.err
    assert "did you mean" in answer.err


@pytest.mark.parametrize(
    ("text", "words"),
    [("roles: [", "roles.yaml:"), ("roles: &a {}\n", "roles.yaml:1"), ("- 1\n", "roles.yaml:1")],
)
def test_what_is_no_policy_is_a_2(cli, project, text, words):
    (project / "policies/roles.yaml").write_text(text)
    answer = cli("policy", "check")
    assert answer.code == 2
    assert words in answer.err


def test_plans_are_checked_too_with_the_norms_that_they_name(cli, project):
    path = project / "audits/before-a-model-ships.yaml"
    text = path.read_text()
    path.write_text(text.replace("norms: [four-fifths]", "norms: [four-fifth]"))
    answer = cli("policy", "check")
    assert answer.code == 2
    assert "did you mean 'four-fifths'" in answer.err
    path.write_text(text.replace("fail_on:", "failon:"))
    assert re.search(r"before-a-model-ships.yaml:\d+: ", cli("policy", "check").err)


def test_a_role_that_nobody_has_is_a_low_finding(cli, project):
    path = project / "policies/roles.yaml"
    path.write_text(re.sub(r"members: \['.*'\]", "members: []", path.read_text(), count=1))
    assert cli("policy", "check").code == 0
    answer = cli("policy", "check", "--fail-on", "low")
    assert answer.code == 1
    assert "ml-engineer" in answer.out


@pytest.mark.parametrize("options", [("--fail-on", "x"), ("-f", "x"), ("-o", "no/such/file")])
def test_a_wrong_option_is_a_2_with_nothing_on_stdout(cli, project, options):
    answer = cli("policy", "check", *options)
    assert (answer.code, answer.out) == (2, "")


def test_the_policy_in_force_is_shown_whole_or_by_section(cli, project):
    whole = json.loads(cli("policy", "show").out)
    assert whole.keys() == Policy.model_fields.keys()
    assert json.loads(cli("policy", "show", "roles").out) == whole["roles"]
    answer = cli("policy", "show", "rolls")
    assert (answer.code, answer.out) == (2, "")
    assert "roles" in answer.err


def test_without_policies_it_says_how_to_get_some(cli, outside):
    for command in ("check", "show"):
        answer = cli("policy", command)
        assert (answer.code, answer.out) == (2, "")
        assert "compliance init" in answer.err
