"""The norms: ``policies/`` as frozen models, and the digest that every trail entry cites.

Every ``*.yaml`` file of the folder contributes top-level keys to one `Policy`; how the keys are
spread over files is the reviewer's choice. Unknown keys, repeated keys and names that refer to
nothing are errors that name file, line and the nearest valid key.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compliance import _yaml as yaml
from compliance.errors import PolicyError

T = TypeVar("T")

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=100)]
Share = Annotated[float, Field(gt=0, le=1)]


class Norms(BaseModel):
    """Base of every model here: immutable, and a typo is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# -- who ---------------------------------------------------------------------


class Permission(Norms):
    """What a role may do: Casbin object pattern (``activity/credit-*``) and actions."""

    object: Annotated[str, Field(pattern=r"^[^*]+\*?$|^\*$")]  # Casbin ignores what follows a star
    actions: tuple[str, ...]


class Role(Norms):
    """A role: who is in it, which roles it includes, what it may do."""

    description: str = ""
    members: tuple[str, ...] = ()
    inherits: tuple[Name, ...] = ()
    allow: tuple[Permission, ...] = ()


class Method(StrEnum):
    """How an identity was established; `strength` orders them."""

    ASSERTED = "asserted"
    OS = "os"
    TOKEN = "token"  # noqa: S105  a method's name, not a token

    @property
    def strength(self) -> int:
        """Return a number that grows with the trust the method deserves."""
        return ("asserted", "os", "token").index(self.value)


class IdentityRule(Norms):
    """The least method for each action; ``default`` covers the rest."""

    least_method: dict[str, Method] = {}

    def least(self, action: str) -> Method:
        """Return the least method an identity must have for an action."""
        return self.least_method.get(action, self.least_method.get("default", Method.OS))


# -- why and what --------------------------------------------------------------


class Basis(StrEnum):
    """Lawful bases of GDPR Art. 6(1), letters (a) to (f)."""

    CONSENT = "consent"
    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal_obligation"
    VITAL_INTERESTS = "vital_interests"
    PUBLIC_TASK = "public_task"
    LEGITIMATE_INTERESTS = "legitimate_interests"


class Purpose(Norms):
    """Why data may be used. Under consent only opted-in subjects pass; else objections count."""

    description: str
    basis: Basis
    article: str = ""


class Column(Norms):
    """A column: the purposes it serves, and how it is handled.

    Attributes:
        audit_only: seen by the fairness audit, never by the body.
        encrypted: cells are stored sealed under the column's key, or each row's subject's own.
        pii: kinds that this column is declared to hold; the scan does not block them.
    """

    purposes: tuple[Name, ...] = ()
    description: str = ""
    audit_only: bool = False
    encrypted: Literal[False, True, "subject"] = False
    pii: tuple[str, ...] = ()


class Dataset(Norms):
    """A registered data set; a column that is not listed reaches nobody."""

    description: str = ""
    subject: str | None = None
    subject_type: Name = "person"
    columns: dict[str, Column]

    @model_validator(mode="after")
    def _subject_in_clear(self) -> Dataset:
        sealed = {name: column.encrypted for name, column in self.columns.items()}
        if sealed.get(self.subject or ""):
            raise ValueError("the subject column cannot be encrypted: consent is looked up by it")
        if self.subject is None and "subject" in sealed.values():
            raise ValueError("encrypted: subject needs the data set to name its subject column")
        return self


class PIIRule(Norms):
    """What the scan does about personal data in columns not declared to hold it.

    A column is reported for a kind when at least ``least_share`` of the sampled
    distinct cells hold a match scored at least ``least_score``.
    """

    action: Literal["block", "mask", "allow"] = "block"
    least_score: Share = 0.6
    least_share: Share = 0.05
    sample: Annotated[int, Field(gt=0)] = 500
    seed: int = 0


class Privacy(Norms):
    """Differential privacy demanded of a training activity, and its cap for one run."""

    budget: Name
    epsilon: Annotated[float, Field(gt=0, le=100)]
    delta: Annotated[float, Field(gt=0, lt=1)]
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    required: bool = True


class AuditRows(Norms):
    """Which rows the guard keeps for the audit: a share by subject, or another data set."""

    share: Share | None = None
    seed: int = 0
    dataset: Name | None = None

    @model_validator(mode="after")
    def _one_source(self) -> AuditRows:
        if (self.share is None) == (self.dataset is None):
            raise ValueError("give either share or dataset")
        return self


class FairnessRule(Norms):
    """The fairness audit of a training activity."""

    label: str
    sensitive: Annotated[tuple[str, ...], Field(min_length=1, max_length=5)]
    positive: str | int | bool
    norms: Annotated[tuple[Name, ...], Field(min_length=1)]
    rows: AuditRows
    on_fail: Literal["withhold", "report"] = "withhold"
    allow_insufficient: bool = False


class Activity(Norms):
    """A processing activity (GDPR Art. 30): purpose, data sets and the controls it is held to."""

    description: str = ""
    purpose: Name
    datasets: tuple[Name, ...]
    unregistered: Literal["refuse", "scan"] = "refuse"
    pii: PIIRule = PIIRule()
    privacy: Privacy | None = None
    fairness: FairnessRule | None = None
    seal: bool = True


class Budget(Norms):
    """The privacy loss that a data set may bear in all, for one unit."""

    dataset: Name
    unit: Literal["row", "subject"] = "subject"
    epsilon: Annotated[float, Field(gt=0)]
    delta: Annotated[float, Field(gt=0, lt=1)]


class Norm(Norms):
    """A dated threshold with its legal basis; a gate fails only beyond it *and* beyond chance."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    least_group: Annotated[int, Field(gt=0)] = 30
    basis: str
    dated: dt.date

    @model_validator(mode="after")
    def _one_side(self) -> Norm:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either at_least or at_most")
        return self


# -- data-subject rights ---------------------------------------------------------


class Regulation(Norms):
    """How long a controller has to answer, and its source."""

    name: str
    months: int = 0
    days: int = 0
    article: str


class Meaning(StrEnum):
    """What a link between two tables says about the person; unknown means ask, never delete."""

    OWNED = "owned"
    ACTED = "acted"
    EXCLUSIVE_PARENT = "exclusive_parent"
    SHARED = "shared"
    CO_OWNED = "co_owned"


class Edge(Norms):
    """A link ``table.column -> table.column`` and its meaning; ``table.a,b`` is a composite."""

    child: Annotated[str, Field(pattern=r"^.+\.[^.]+$")]
    parent: Annotated[str, Field(pattern=r"^.+\.[^.]+$")]
    meaning: Meaning | None = None
    reason: str = ""


class SubjectTable(Norms):
    """The table whose rows are the persons: its key and the columns that identify one.

    ``subject_type`` names the same persons in data sets: their key there is destroyed with them.
    """

    table: str
    key: str
    identifiers: Annotated[tuple[str, ...], Field(min_length=1)]
    subject_type: Name | None = None


class Store(Norms):
    """A database in the data map; ``url`` may be ``env:NAME`` so that no secret is written down.

    ``personal`` names, by table, the columns that are anonymised where a row must stay;
    ``impersonal`` lists the tables reviewed as holding nothing about a person.
    """

    url: str
    subjects: Annotated[tuple[SubjectTable, ...], Field(min_length=1)]
    edges: tuple[Edge, ...] = ()
    personal: dict[str, tuple[str, ...]] = {}
    impersonal: tuple[str, ...] = ()


class Retention(Norms):
    """Rows that must stay although erasure was asked for, with the ground and the end."""

    store: Name
    table: str
    basis: str
    article: str
    until: dt.date | None = None


class Policy(Norms):
    """Everything under ``policies/``."""

    identity: IdentityRule = IdentityRule()
    roles: dict[Name, Role] = {}
    purposes: dict[Name, Purpose] = {}
    datasets: dict[Name, Dataset] = {}
    activities: dict[Name, Activity] = {}
    budgets: dict[Name, Budget] = {}
    norms: dict[Name, Norm] = {}
    regulations: dict[Name, Regulation] = {}
    retention: dict[Name, Retention] = {}
    stores: dict[Name, Store] = {}
    digest: str = ""

    @classmethod
    def load(cls, folder: Path) -> Policy:
        """Read a folder of YAML files.

        Raises:
            PolicyError: the folder is missing, or a file is wrong: file, line, nearest valid key.
        """
        sources = yaml.read_folder(folder)
        policy = yaml.validate(cls, sources)
        _check_references(policy, sources)
        return policy.model_copy(update={"digest": yaml.digest(sources)})

    def dataset(self, name: str) -> Dataset:
        """Return a data set; an unknown name is an error that names the nearest one."""
        return _lookup(self.datasets, name, "data set")

    def activity(self, name: str) -> Activity:
        """Return an activity; an unknown name is an error that names the nearest one."""
        return _lookup(self.activities, name, "activity")

    def norm(self, name: str) -> Norm:
        """Return a norm; an unknown name is an error that names the nearest one."""
        return _lookup(self.norms, name, "norm")

    def store(self, name: str) -> Store:
        """Return a store of the data map; an unknown name is an error that names the nearest."""
        return _lookup(self.stores, name, "store")

    def purpose_of(self, activity: str) -> Purpose:
        """Return the purpose of an activity."""
        return self.purposes[self.activity(activity).purpose]


def _lookup(table: dict[str, T], name: str, what: str) -> T:
    if name in table:
        return table[name]
    raise PolicyError(f"unknown {what} {name!r}{yaml.nearest(name, table)}")


def _check_references(policy: Policy, sources: list[yaml.Source]) -> None:
    """Every name that refers to another must be there; an unknown role or purpose opens nothing."""
    for path, name, table, what in _references(policy):
        if name not in table:
            where = yaml.locate(sources, (*path, name)) or yaml.locate(sources, path)
            raise PolicyError(f"{where}: unknown {what} {name!r}{yaml.nearest(name, table)}")


_Reference = tuple[tuple[str, ...], str, Iterable[str], str]


def _references(policy: Policy) -> Iterator[_Reference]:
    actions = {a for r in policy.roles.values() for p in r.allow for a in p.actions}
    for action in policy.identity.least_method:
        yield ("identity", "least_method"), action, actions | {"default", "impersonate"}, "action"
    for key, role in policy.roles.items():
        for parent in role.inherits:
            yield ("roles", key, "inherits"), parent, policy.roles, "role"
    for key, dataset in policy.datasets.items():
        yield from _dataset_references(policy, key, dataset)
    for key, activity in policy.activities.items():
        yield from _activity_references(policy, key, activity)
    for key, budget in policy.budgets.items():
        yield ("budgets", key, "dataset"), budget.dataset, policy.datasets, "data set"
    for key, rule in policy.retention.items():
        yield ("retention", key, "store"), rule.store, policy.stores, "store"


def _dataset_references(policy: Policy, key: str, dataset: Dataset) -> Iterator[_Reference]:
    at = ("datasets", key)
    if dataset.subject is not None:
        yield (*at, "subject"), dataset.subject, dataset.columns, "column"
    for name, column in dataset.columns.items():
        for purpose in column.purposes:
            yield (*at, "columns", name, "purposes"), purpose, policy.purposes, "purpose"


def _activity_references(policy: Policy, key: str, activity: Activity) -> Iterator[_Reference]:
    at = ("activities", key)
    yield (*at, "purpose"), activity.purpose, policy.purposes, "purpose"
    for dataset in activity.datasets:
        yield (*at, "datasets"), dataset, policy.datasets, "data set"
    if activity.privacy is not None:
        yield (*at, "privacy", "budget"), activity.privacy.budget, policy.budgets, "budget"
    if activity.fairness is not None:
        rule = activity.fairness
        yield from _fairness_references(policy, (*at, "fairness"), rule, activity.datasets)


def _fairness_references(
    policy: Policy, at: tuple[str, ...], rule: FairnessRule, datasets: tuple[str, ...]
) -> Iterator[_Reference]:
    for norm in rule.norms:
        yield (*at, "norms"), norm, policy.norms, "norm"
    if rule.rows.dataset is not None:
        yield (*at, "rows", "dataset"), rule.rows.dataset, policy.datasets, "data set"
    columns = {c for d in datasets if d in policy.datasets for c in policy.datasets[d].columns}
    for name in (rule.label, *rule.sensitive):
        yield at, name, columns, "column"
