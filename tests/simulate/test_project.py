"""A simulated project: shipped norms, three people who are believed by name, one data map."""

import pytest

from compliance import Guard
from compliance.access.identity import Identity
from compliance.access.rbac import Authority
from compliance.errors import AccessDenied
from compliance.policy import Method, Policy
from compliance.simulate import project

PEOPLE = {project.ENGINEER, project.OFFICER, project.CLERK}


def _policy(folder, overrides=None):
    project.write(folder, overrides or {})
    return Policy.load(folder / "policies")


def test_each_person_has_only_their_roles(tmp_path):
    roles = _policy(tmp_path).roles
    assert {name: set(role.members) for name, role in roles.items()} == {
        "ml-engineer": {project.ENGINEER},
        "privacy-officer": {project.OFFICER, project.CLERK},
        "auditor": {project.OFFICER},
        "impersonate": set(),
    }


@pytest.mark.parametrize(
    ("person", "obj", "action", "may"),
    [
        (project.ENGINEER, "activity/credit-scoring", "run", True),
        (project.ENGINEER, "request/x", "approve", False),
        (project.CLERK, "request/x", "submit", True),
        (project.CLERK, "trail/entries", "read", False),
        (project.OFFICER, "trail/entries", "read", True),
        (project.OFFICER, "activity/credit-scoring", "run", False),
        ("mallory", "trail/entries", "read", False),
    ],
)
def test_a_name_is_believed_and_gives_no_more_than_its_roles(tmp_path, person, obj, action, may):
    authority = Authority(_policy(tmp_path))
    who = Identity(person, Method.ASSERTED, "account")
    if may:
        authority.require(who, obj, action)
    else:
        with pytest.raises(AccessDenied):
            authority.require(who, obj, action)


def test_a_key_of_the_policy_is_replaced_where_it_stands(tmp_path):
    """Named twice, a key would be refused; the rest of its file stays."""
    before = _policy(tmp_path / "plain")
    law = {"lgpd": {"name": "LGPD", "days": 15, "article": "Art. 19"}}
    after = _policy(tmp_path / "other", {"regulations": law})
    assert set(after.regulations) == {"lgpd"}
    assert after.datasets == before.datasets
    assert not (tmp_path / "other/policies/overrides.yaml").exists()


def test_writing_twice_gives_the_same_policy(tmp_path):
    assert _policy(tmp_path).digest == _policy(tmp_path).digest


def test_the_callers_overrides_are_left_alone(tmp_path, bank):
    overrides = bank.policy_overrides()
    policy = _policy(tmp_path, overrides)
    assert set(overrides) == {"stores"}
    assert policy.stores["bank"].url == bank.url


def test_a_guard_opens_on_it(tmp_path, bank):
    project.write(tmp_path, bank.policy_overrides())
    guard = Guard(tmp_path, identity=f"asserted:{project.OFFICER}")
    assert guard.consent("given", [1], purpose="credit-scoring", subject_type="customer") == 1
    guard.store.close()
    assert {"ada", "grace", "sam"} == PEOPLE
