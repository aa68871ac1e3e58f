"""The norms: frozen, closed, and every name in them refers to something."""

import subprocess

import pytest
from pydantic import ValidationError

from compliance import config
from compliance.errors import PolicyError
from compliance.policy import (
    AuditRows,
    Basis,
    Column,
    Dataset,
    IdentityRule,
    Method,
    Norm,
    Permission,
    Policy,
)

NORMS = """\
purposes:
  lending: {description: Lend., basis: consent}
datasets:
  people:
    subject: id
    columns:
      id: {purposes: [lending]}
      sex: {purposes: [lending]}
      paid: {purposes: [lending]}
activities:
  scoring:
    purpose: lending
    datasets: [people]
    privacy: {budget: people, epsilon: 1, delta: 0.001}
    fairness:
      label: paid
      positive: 1
      sensitive: [sex]
      norms: [rule]
      rows: {share: 0.5}
budgets:
  people: {dataset: people, epsilon: 4, delta: 0.01}
norms:
  rule: {metric: m, at_least: 0.8, basis: law, dated: 2024-01-01}
roles:
  reader: {members: [ana], allow: [{object: "*", actions: [read, approve]}]}
  writer: {inherits: [reader]}
identity:
  least_method: {default: os, approve: token}
stores:
  crm: {url: "sqlite:///crm.db", subjects: [{table: people, key: id, identifiers: [email]}]}
retention:
  books: {store: crm, table: orders, basis: law, article: "1"}
"""


@pytest.fixture
def load(tmp_path):
    def read(old="", new="", text=NORMS):
        assert old in text
        (tmp_path / "norms.yaml").write_text(text.replace(old, new, 1), "utf-8")
        return Policy.load(tmp_path)

    return read


# -- the shipped norms ------------------------------------------------------------------


def test_the_shipped_norms_load_and_open_nothing_to_anybody():
    policy = Policy.load(config.shipped("policies"))
    assert {"credit-scoring"} <= set(policy.activities)
    assert all(role.members == () for role in policy.roles.values())
    assert policy.identity.least("erase") is policy.identity.least("anything") is Method.OS


def test_their_digest_is_what_an_auditor_gets_in_a_shell():
    folder = config.shipped("policies")
    script = "export LC_ALL=C; sha256sum *.yaml | sha256sum"
    wanted = subprocess.check_output(["sh", "-c", script], cwd=folder, text=True).split()[0]
    assert Policy.load(folder).digest == wanted


# -- reading ------------------------------------------------------------------------------


def test_what_is_written_is_what_is_in_force(load):
    policy = load()
    assert policy.purpose_of("scoring").basis is Basis.CONSENT
    assert policy.dataset("people").subject == "id"
    assert policy.norm("rule").at_least == 0.8
    assert policy.store("crm").subjects[0].key == "id"
    assert policy.identity.least("approve") is Method.TOKEN


def test_a_policy_is_frozen(load):
    policy = load()
    with pytest.raises(ValidationError):
        policy.digest = "other"
    with pytest.raises(ValidationError):
        policy.datasets["people"].subject = None


def test_a_change_of_one_byte_changes_the_digest(load):
    assert load().digest != load("Lend.", "Lend;").digest


@pytest.mark.parametrize("what", ["dataset", "activity", "norm", "store"])
def test_an_unknown_name_is_an_error_that_names_the_nearest(load, what):
    known = {"dataset": "people", "activity": "scoring", "norm": "rule", "store": "crm"}[what]
    with pytest.raises(PolicyError, match=f"did you mean '{known}'"):
        getattr(load(), what)(known + "s")


# -- references ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("purpose: lending", "purpose: landing", r":12: unknown purpose 'landing'; did you mean 'l"),
        ("datasets: [people]", "datasets: [poeple]", r":13: unknown data set 'poeple'; did you"),
        ("id: {purposes: [lending]}", "id: {purposes: [x]}", r":7: unknown purpose 'x'; known: l"),
        ("subject: id", "subject: ident", r":5: unknown column 'ident'"),
        ("budget: people", "budget: peple", r":14: unknown budget 'peple'; did you mean 'people'"),
        ("dataset: people,", "dataset: peple,", r":22: unknown data set 'peple'"),
        ("label: paid", "label: payed", r":1[56]: unknown column 'payed'; did you mean 'paid'"),
        ("sensitive: [sex]", "sensitive: [gender]", r":1[5678]: unknown column 'gender'"),
        ("norms: [rule]", "norms: [ruel]", r":19: unknown norm 'ruel'; did you mean 'rule'"),
        ("{share: 0.5}", "{dataset: peple}", r":20: unknown data set 'peple'"),
        ("inherits: [reader]", "inherits: [raeder]", r":27: unknown role 'raeder'; did you mean"),
        ("store: crm", "store: cmr", r":33: unknown store 'cmr'; did you mean 'crm'"),
        ("approve: token", "aprove: token", r":29: unknown action 'aprove'; did you mean 'approve"),
    ],
)  # fmt: skip
def test_a_name_that_refers_to_nothing_is_named_by_line(load, old, new, match):
    with pytest.raises(PolicyError, match=match):
        load(old, new)


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("privacy: {budget", "privcay: {budget", r":14: .*unknown key; did you mean 'privacy'"),
        ("epsilon: 1,", "epsilon: 0,", r":14: "),
        ("epsilon: 1,", "epsilon: .nan,", r":14: "),
        ("epsilon: 1,", "epsilon: .inf,", r":14: "),
        ("delta: 0.001", "delta: 1", r":14: "),
        ("{share: 0.5}", "{share: 0}", r":20: "),
        ("{share: 0.5}", "{}", r":20: .*either share or dataset"),
        ("{share: 0.5}", "{share: 0.5, dataset: people}", r":20: .*either share or dataset"),
        ("at_least: 0.8", "at_least: 0.8, at_most: 1", r":24: .*either at_least or at_most"),
        ("basis: consent", "basis: whim", r":2: "),
        ("dated: 2024-01-01", "dated: soon", r":24: "),
        ("sensitive: [sex]", "sensitive: []", r":18: "),
        ("scoring:\n", "Scoring:\n", r":11: "),
        ("scoring:\n", "../../etc:\n", r":11: "),
        ('object: "*"', 'object: ""', r":26: "),
        ('object: "*"', 'object: "data/*-public"', r":26: "),
        ('object: "*"', 'object: "**"', r":26: "),
        ("members: [ana]", "members: ana", r":26: "),
        ("approve: token", "approve: password", r":29: "),
        ("id: {purposes: [lending]}", "id: {encrypted: true}", r":\d: .*subject column cannot be"),
        (
            "id: {purposes: [lending]}",
            "id: {encrypted: subject}",
            r":\d: .*subject column cannot be",
        ),
        ("id: {purposes: [lending]}", "id: {encrypted: maybe}", r":\d: .*'subject'"),
    ],
)
def test_a_value_out_of_range_is_named_by_line(load, old, new, match):
    with pytest.raises(PolicyError, match=match):
        load(old, new)


def test_several_files_make_one_policy(load, tmp_path):
    first, mark, second = NORMS.partition("budgets:")
    (tmp_path / "budgets.yaml").write_text(mark + second, "utf-8")
    assert load(text=first).model_dump(exclude={"digest"}) == _whole(tmp_path)


def _whole(tmp_path):
    (tmp_path / "budgets.yaml").unlink()
    (tmp_path / "norms.yaml").write_text(NORMS, "utf-8")
    return Policy.load(tmp_path).model_dump(exclude={"digest"})


def test_methods_are_ordered_by_the_trust_they_deserve():
    assert Method.ASSERTED.strength < Method.OS.strength < Method.TOKEN.strength


def test_where_nothing_is_said_the_operating_system_must_have_said_who_it_is():
    assert IdentityRule().least("run") is Method.OS
    assert IdentityRule(least_method={"default": "asserted"}).least("run") is Method.ASSERTED


@pytest.mark.parametrize("pattern", ["*", "dataset/*", "activity/credit-*", "key/list"])
def test_a_pattern_may_end_in_a_star(pattern):
    assert Permission(object=pattern, actions=("read",)).object == pattern


def test_norms_that_contradict_themselves_are_refused_in_python_too():
    with pytest.raises(ValidationError):
        AuditRows()
    with pytest.raises(ValidationError):
        Norm(metric="m", basis="b", dated="2024-01-01")
    with pytest.raises(ValidationError):
        Dataset(subject="id", columns={"id": Column(encrypted=True)})
    with pytest.raises(ValidationError, match="name its subject column"):
        Dataset(columns={"pay": Column(encrypted="subject")})
