"""Roles: what is not permitted raises, and no name or cycle or pattern opens more than it says."""

import csv
import logging

import pytest

from compliance.access.rbac import Authority, require_another
from compliance.errors import AccessDenied
from compliance.policy import IdentityRule, Method, Permission, Policy, Role


@pytest.fixture
def authority(policy):
    return Authority(policy)


def permits(authority, identity, obj, action):
    try:
        authority.require(identity, obj, action)
    except AccessDenied:
        return False
    return True


def roles(**definitions):
    return Authority(Policy(roles=definitions))


# -- roles ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actor", "obj", "action", "wanted"),
    [
        ("rita", "dataset/people", "read", True),
        ("rita", "dataset/people", "write", False),
        ("rita", "dataset", "read", False),
        ("rita", "datasets/people", "read", False),
        ("rita", "activity/credit-scoring", "run", False),
        ("tom", "activity/credit-scoring", "run", True),
        ("tom", "activity/helpdesk", "run", False),
        ("tom", "dataset/people", "read", True),
        ("olga", "dataset/people", "read", True),
        ("olga", "request/7", "erase", True),
        ("tom", "request/7", "erase", False),
        ("nobody", "dataset/people", "read", False),
        ("", "dataset/people", "read", False),
        ("Rita", "dataset/people", "read", False),
        ("*", "dataset/people", "read", False),
    ],
)
def test_roles_inherit_upwards_only_and_patterns_match_their_prefix(
    authority, who, actor, obj, action, wanted
):
    assert permits(authority, who(actor), obj, action) is wanted


@pytest.mark.parametrize("name", ["reader", "role:reader", "officer", "role:officer", "user:rita"])
def test_a_user_called_like_a_role_gains_nothing(authority, who, name):
    assert not permits(authority, who(name), "dataset/people", "read")


def test_a_member_called_like_a_role_is_no_bridge(who):
    authority = roles(
        reader=Role(members=("officer", "role:officer")),
        officer=Role(members=("olga",), allow=(Permission(object="*", actions=("erase",)),)),
    )
    assert not permits(authority, who("officer"), "x", "erase")
    assert not permits(authority, who("role:officer"), "x", "erase")


def test_roles_that_inherit_from_each_other_end(who):
    read = (Permission(object="*", actions=("read",)),)
    authority = roles(
        a=Role(members=("ana",), inherits=("b",)), b=Role(inherits=("a",), allow=read)
    )
    assert permits(authority, who("ana"), "x", "read")
    assert not permits(authority, who("ana"), "x", "write")


def test_an_action_is_a_word_and_no_pattern(who):
    authority = roles(a=Role(members=("ana",), allow=(Permission(object="x", actions=("*",)),)))
    assert not permits(authority, who("ana"), "x", "read")


def test_a_policy_without_roles_permits_nothing(who):
    assert not permits(roles(), who("root"), "x", "read")


# -- published examples --------------------------------------------------------------------


def test_casbins_hierarchy_example_is_decided_alike(data, who):
    """``rbac_with_hierarchy_policy.csv``: what alice, two roles up, and bob may do."""
    path = data / "crypto/casbin/examples/rbac_with_hierarchy_policy.csv"
    rows = csv.reader(path.read_text("utf-8").splitlines())
    lines = [[part.strip() for part in row] for row in rows if row]
    parents = [(line[1], line[2]) for line in lines if line[0] == "g"]
    names = {name for _, name in parents} | {line[1] for line in lines if line[0] == "p"}
    allow = {
        name: tuple(Permission(object=p[2], actions=(p[3],)) for p in lines if p[:2] == ["p", name])
        for name in names
    }
    inherits = {name: tuple(up for low, up in parents if low == name) for name in names}
    authority = roles(
        **{
            name.replace("_", "-"): Role(
                members=(name,),
                inherits=tuple(up.replace("_", "-") for up in inherits[name]),
                allow=allow[name],
            )
            for name in names
        }
    )
    wanted = {
        ("alice", "data1", "read"): True,
        ("alice", "data1", "write"): True,
        ("alice", "data2", "read"): True,
        ("alice", "data2", "write"): True,
        ("bob", "data1", "read"): False,
        ("bob", "data1", "write"): False,
        ("bob", "data2", "read"): False,
        ("bob", "data2", "write"): True,
    }
    found = {case: permits(authority, who(case[0]), *case[1:]) for case in wanted}
    assert found == wanted


# -- identity ----------------------------------------------------------------------------------


def test_a_weakly_established_identity_may_not_do_what_needs_a_stronger_one(authority, who):
    assert permits(authority, who("olga", Method.OS), "request/7", "erase")
    assert permits(authority, who("olga", Method.TOKEN), "request/7", "erase")
    with pytest.raises(AccessDenied, match="'os' or stronger"):
        authority.require(who("olga", Method.ASSERTED), "request/7", "erase")
    assert permits(authority, who("olga", Method.ASSERTED), "dataset/people", "read")


def test_where_the_policy_is_silent_a_mere_word_is_not_enough(who):
    authority = roles(a=Role(members=("ana",), allow=(Permission(object="x", actions=("read",)),)))
    assert permits(authority, who("ana"), "x", "read")
    assert not permits(authority, who("ana", Method.ASSERTED), "x", "read")


def test_acting_for_another_needs_the_role_and_gives_the_others_rights(authority, who):
    assert permits(authority, who("ian", behalf="tom"), "activity/credit-scoring", "run")
    assert not permits(authority, who("ian"), "activity/credit-scoring", "run")
    assert not permits(authority, who("rita", behalf="olga"), "request/7", "erase")
    assert not permits(authority, who("olga", behalf="rita"), "request/7", "erase")


def test_acting_for_oneself_or_nobody_is_no_way_around_the_role(authority, who):
    assert not permits(authority, who("rita", behalf="rita"), "dataset/people", "read")
    assert not permits(authority, who("rita", behalf=""), "dataset/people", "read")


def test_impersonation_has_a_least_method_of_its_own(policy, who):
    rule = IdentityRule(least_method={"default": Method.ASSERTED, "impersonate": Method.TOKEN})
    authority = Authority(policy.model_copy(update={"identity": rule}))
    tom = "activity/credit-scoring", "run"
    assert permits(authority, who("ian", Method.TOKEN, behalf="tom"), *tom)
    assert not permits(authority, who("ian", Method.OS, behalf="tom"), *tom)


def test_two_pairs_of_eyes_are_those_of_two_persons(who):
    require_another(who("ben"), "ana", "approve")
    for same in (who("ana"), who("ana", Method.ASSERTED), who("ana", behalf="ben")):
        with pytest.raises(AccessDenied, match="another person"):
            require_another(same, "ana", "approve")


def test_a_refusal_names_who_what_and_where_to_look(authority, who):
    with pytest.raises(AccessDenied, match=r"'rita'.*'run'.*activity/helpdesk.*policy show"):
        authority.require(who("rita"), "activity/helpdesk", "run")


def test_the_users_logging_is_left_as_it_was(policy):
    root, other = logging.getLogger(), logging.getLogger("users.own")
    before = (list(root.handlers), root.level, other.disabled)
    Authority(policy)
    assert (list(root.handlers), root.level, other.disabled) == before
