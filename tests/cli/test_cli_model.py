"""``compliance model`` and ``compliance budget``: sealed models, and the privacy they cost."""

import json
import shutil

import pytest
import yaml

from compliance import Guard


@pytest.fixture
def guard(office):
    """Return the guard of an engineer, in a project whose activity asks for no privacy."""
    folder = office.folder.parent
    path = folder / "policies/activities.yaml"
    policy = yaml.safe_load(path.read_text())
    for rule in ("privacy", "fairness"):
        policy["activities"]["credit-scoring"].pop(rule)
    path.write_text(yaml.safe_dump(policy))
    found = Guard(folder, identity="asserted:ada")
    yield found
    found.store.close()


@pytest.fixture
def sealed(guard, office, become):
    """Train and seal two versions of a model; be the auditor."""
    from sklearn.linear_model import LogisticRegression

    officer = Guard(guard.settings.root, identity="asserted:grace")
    everyone = list(range(1, 401))
    officer.consent("given", everyone, purpose="credit-scoring", subject_type="customer")
    officer.store.close()

    @guard.dataset("applicants")
    def applicants():
        return office.applicants()

    @guard.training("credit-scoring")
    def train(run, data):
        return LogisticRegression().fit(data[["age", "income"]].fillna(0), data["repaid"])

    for _ in range(2):
        train(applicants())
    become("grace")
    return guard.settings.models


def test_sealed_models_are_listed_with_their_origin(cli, sealed, guard):
    answer = cli("model", "list")
    lines = [line.split() for line in answer.out.splitlines()]
    assert (answer.code, answer.err) == (0, "")
    assert [line[:3] for line in lines[1:]] == [
        ["credit-scoring", "000001", "skops"],
        ["credit-scoring", "000002", "skops"],
    ]
    assert lines[1][-2:] == ["400", guard.policy.digest[:12]]


def test_sound_models_verify(cli, sealed):
    answer = cli("model", "verify", "-f", "json")
    assert (answer.code, answer.err) == (0, "Model verification: pass, 0 findings\n")
    assert json.loads(answer.out)["outcomes"][0]["facts"]["models"] == 2


def test_one_changed_byte_is_a_1_and_names_the_version(cli, sealed):
    file = max((sealed / "credit-scoring/000002").iterdir(), key=lambda p: p.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    answer = cli("model", "verify", "-f", "json")
    [finding] = json.loads(answer.out)["outcomes"][0]["findings"]
    assert answer.code == 1
    assert (finding["place"]["table"], finding["place"]["column"]) == ("credit-scoring", "000002")
    assert cli("audit", "run", "nightly").code == 1


def test_a_model_under_another_name_is_rejected(cli, sealed):
    shutil.copytree(sealed / "credit-scoring", sealed / "fraud")
    assert cli("model", "verify").code == 1
    assert cli("model", "verify", "fraud").code == 1
    assert cli("model", "verify", "credit-scoring").code == 0


def test_a_manifest_that_is_none_is_listed_as_rejected(cli, sealed):
    manifest = next((sealed / "credit-scoring/000001").glob("*.json"))
    manifest.write_text("{}")
    answer = cli("model", "list")
    assert answer.code == 0
    assert "REJECTED" in answer.out.splitlines()[1]
    assert cli("model", "verify").code == 1


def test_without_a_model_nothing_is_verified(cli, project):
    assert cli("model", "list").code == 0
    assert cli("model", "verify").code == 3
    assert cli("model", "verify", "nonsense").code == 3


def test_only_an_auditor_verifies(cli, office, become):
    become("ada")
    for command in (("model", "list"), ("model", "verify"), ("budget", "show")):
        answer = cli(*command)
        assert (answer.code, answer.out) == (4, "")


# -- budget ---------------------------------------------------------------------------------------


def _row(answer):
    header, *lines = (line.split() for line in answer.out.splitlines())
    [line] = lines
    return dict(zip(header, line, strict=True))


def test_a_budget_that_nobody_drew_on_is_whole(cli, project):
    answer = cli("budget", "show")
    assert (answer.code, answer.err) == (0, "")
    found = _row(answer)
    assert (found["budget"], found["unit"], found["runs"]) == ("applicants", "subject", "0")
    assert float(found["remaining"]) == float(found["epsilon"]) == 4


def test_what_was_reserved_is_shown_and_no_longer_left(cli, project):
    guard = Guard(project)
    norm = guard.policy.budgets["applicants"]
    guard.ledger.reserve(
        None, "applicants", norm, 1.5, 1e-5, activity="credit-scoring", actor="ada"
    )
    guard.store.close()
    found = _row(cli("budget", "show", "applicants"))
    figures = {name: float(found[name]) for name in ("reserved", "settled", "remaining")}
    assert figures == {"reserved": 1.5, "settled": 0, "remaining": 2.5}


def test_an_unknown_budget_is_a_2(cli, project):
    answer = cli("budget", "show", "aplicants")
    assert (answer.code, answer.out) == (2, "")
    assert "applicants" in answer.err


def test_a_version_that_is_gone_is_a_1_and_named(cli, sealed):
    folder = next(p for p in sealed.rglob("000002") if p.is_dir())
    shutil.rmtree(folder)
    answer = cli("model", "verify", "-f", "json")
    assert answer.code == 1
    (finding,) = json.loads(answer.out)["outcomes"][0]["findings"]
    assert finding["message"] == "version 000002 was sealed and is gone"
