"""The plan of a request: frozen, hashed, readable without a key.

What anybody may read (tables, actions, counts, reasons, SQL with bind parameters) is
hashed as RFC 8785 JSON. Keys, constants and search values are the *secret* part: it is
sealed under the person's key, and the hash binds it through a salted digest, so that
neither can be exchanged and nothing can be guessed once the salt is gone.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import secrets
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from compliance.errors import InputError, IntegrityError
from compliance.policy import Meaning
from compliance.rights.subject import Search
from compliance.trail.entries import canonical

Key = tuple[Any, ...]
Counts = dict[str, dict[str, int]]  # table -> action -> rows


class Action(StrEnum):
    """What happens to a row; unlink prepares a delete and is not counted as an effect."""

    DETACH = "detach"
    UNLINK = "unlink"
    ANONYMISE = "anonymise"
    DELETE = "delete"
    KEEP = "keep"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Link:
    """A link between two tables, from the data map."""

    child: str
    child_columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    meaning: Meaning | None = None
    reason: str = ""

    def __str__(self) -> str:
        child, parent = ",".join(self.child_columns), ",".join(self.parent_columns)
        return f"{self.child}.{child} -> {self.parent}.{parent}"

    @property
    def ends(self) -> tuple[str, frozenset[tuple[str, str]], str]:
        """Return what makes two descriptions of a link the same, whatever the order of columns."""
        pairs = zip(self.child_columns, self.parent_columns, strict=True)
        return self.child, frozenset(pairs), self.parent


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """One action on rows of one table.

    Attributes:
        rows: how many rows; more than keys where a table has no key of its own.
        key_columns: what identifies a row.
        columns: what is set: to NULL (detach, unlink) or to a constant or NULL (anonymise).
        match: for detach, the columns that held ``parents``.
        keys: the rows (secret).
        parents: for detach, the values that must be gone (secret).
        constants: for anonymise, a value for all rows or one for each key (secret).
    """

    table: str
    action: Action
    rows: int
    reason: str
    key_columns: tuple[str, ...]
    columns: tuple[str, ...] = ()
    match: tuple[str, ...] = ()
    sql: str = ""
    keys: tuple[Key, ...] = ()
    parents: tuple[Key, ...] = ()
    constants: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def visible(self) -> dict[str, Any]:
        """Return what may be read without a key."""
        names = ("table", "action", "rows", "reason", "sql")
        lists = ("key_columns", "columns", "match")
        return {n: getattr(self, n) for n in names} | {n: list(getattr(self, n)) for n in lists}

    def secret(self) -> dict[str, Any]:
        """Return what is sealed."""
        return {
            "keys": [[encode(v) for v in key] for key in self.keys],
            "parents": [[encode(v) for v in key] for key in self.parents],
            "constants": {c: [encode(v) for v in vs] for c, vs in self.constants.items()},
        }

    @classmethod
    def join(cls, visible: Mapping[str, Any], secret: Mapping[str, Any]) -> Step:
        """Put both parts together again."""
        lists = {n: tuple(visible[n]) for n in ("key_columns", "columns", "match")}
        plain = {n: visible[n] for n in ("table", "rows", "reason", "sql")}
        return cls(
            **plain,
            **lists,  # type: ignore[arg-type]  # the names say which field each is
            action=Action(visible["action"]),
            keys=tuple(tuple(decode(v) for v in key) for key in secret["keys"]),
            parents=tuple(tuple(decode(v) for v in key) for key in secret["parents"]),
            constants={c: tuple(decode(v) for v in vs) for c, vs in secret["constants"].items()},
        )

    def same_rows(self) -> tuple[Any, ...]:
        """Return what must be equal for two plans to touch the same rows in the same way."""
        return self.table, self.action, self.columns, self.match, self.rows, frozenset(self.keys)


@dataclass(frozen=True, slots=True, repr=False)
class StorePlan:
    """What happens in one store, in order.

    Attributes:
        search: where and by what the person is looked up (secret).
        needles: values that must be nowhere afterwards (secret).
        unsearched: subject tables that know none of the identifiers, and binary columns.
    """

    store: str
    steps: tuple[Step, ...]
    search: Search
    needles: tuple[str, ...]
    unsearched: tuple[str, ...] = ()

    def visible(self) -> dict[str, Any]:
        """Return what may be read without a key."""
        return {
            "store": self.store,
            "steps": [step.visible() for step in self.steps],
            "searched": {table: sorted(columns) for table, columns in self.search.items()},
            "unsearched": list(self.unsearched),
        }

    def secret(self) -> dict[str, Any]:
        """Return what is sealed."""
        search = {
            t: {c: [encode(v) for v in vs] for c, vs in cs.items()} for t, cs in self.search.items()
        }
        steps = [step.secret() for step in self.steps]
        return {"search": search, "needles": list(self.needles), "steps": steps}

    @classmethod
    def join(cls, visible: Mapping[str, Any], secret: Mapping[str, Any]) -> StorePlan:
        """Put both parts together again."""
        search = {
            t: {c: tuple(decode(v) for v in vs) for c, vs in cs.items()}
            for t, cs in secret["search"].items()
        }
        steps = tuple(map(Step.join, visible["steps"], secret["steps"]))
        return cls(
            visible["store"], steps, search, tuple(secret["needles"]), tuple(visible["unsearched"])
        )

    def counts(self) -> Counts:
        """Return rows by table and action."""
        counts: dict[str, Counter[str]] = {}
        for step in self.steps:
            if step.action is not Action.UNLINK:
                counts.setdefault(step.table, Counter())[step.action.value] += step.rows
        return {table: dict(actions) for table, actions in counts.items()}

    def same_rows(self, other: StorePlan) -> bool:
        """Return whether both plans touch the same rows in the same way."""
        return Counter(s.same_rows() for s in self.steps) == Counter(
            s.same_rows() for s in other.steps
        )


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """What one request will do in every store."""

    request: str
    kind: str
    regulation: str
    policy: str
    stores: tuple[StorePlan, ...]
    salt: str = field(default_factory=lambda: secrets.token_hex(32))

    def visible(self) -> dict[str, Any]:
        """Return what may be read without a key; `digest` is over these bytes."""
        return {
            "version": 1,
            "request": self.request,
            "kind": self.kind,
            "regulation": self.regulation,
            "policy": self.policy,
            "stores": [s.visible() | {"sealed": self.sealed_digest(s)} for s in self.stores],
        }

    def sealed_digest(self, store: StorePlan) -> str:
        """Return the salted SHA-256 of a store's secret part."""
        return _sealed_digest(self.salt, store.secret())

    @property
    def digest(self) -> str:
        """Return the SHA-256 that is approved."""
        return digest_of(self.visible())

    def secret(self, store: StorePlan) -> dict[str, Any]:
        """Return what is sealed for a store."""
        return {"salt": self.salt, "plan": store.secret()}

    @classmethod
    def join(cls, visible: Mapping[str, Any], secret: Iterable[Mapping[str, Any]]) -> Plan:
        """Put a plan together from its stored parts.

        Raises:
            IntegrityError: a secret part is not the one that was hashed.
        """
        parts = list(secret)
        salt = parts[0]["salt"] if parts else ""
        for store, part in zip(visible["stores"], parts, strict=True):
            if _sealed_digest(part["salt"], part["plan"]) != store["sealed"]:
                raise IntegrityError("the plan's sealed part is not the one that was planned")
        stores = map(StorePlan.join, visible["stores"], (part["plan"] for part in parts))
        names = {n: visible[n] for n in ("request", "kind", "regulation", "policy")}
        return cls(**names, stores=tuple(stores), salt=salt)

    def counts(self) -> dict[str, Counts]:
        """Return rows by store, table and action."""
        return {store.store: store.counts() for store in self.stores}


def digest_of(visible: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a plan's visible part."""
    return hashlib.sha256(canonical(visible)).hexdigest()


def canonical_text(values: Mapping[str, Any]) -> str:
    """Return the RFC 8785 text of a mapping, as it is stored."""
    return canonical(values).decode()


def _sealed_digest(salt: str, secret: Mapping[str, Any]) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + canonical(secret)).hexdigest()


# -- values --------------------------------------------------------------------------


def encode(value: Any) -> Any:
    """Return a database value as JSON that `decode` reads back exactly.

    Raises:
        InputError: a type that cannot be a key here.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    for kind, (tag, write, _read) in _TAGS.items():
        if isinstance(value, kind):
            return {tag: write(value)}
    raise InputError(f"a key of type {type(value).__name__} cannot be planned")


def decode(value: Any) -> Any:
    """Return the database value of what `encode` wrote."""
    if not isinstance(value, Mapping):
        return value
    ((tag, text),) = value.items()
    return next(read(text) for t, _write, read in _TAGS.values() if t == tag)


_TAGS: dict[type, tuple[str, Any, Any]] = {
    uuid.UUID: ("uuid", str, uuid.UUID),
    Decimal: ("decimal", str, Decimal),
    float: ("float", float.hex, float.fromhex),
    dt.datetime: ("datetime", dt.datetime.isoformat, dt.datetime.fromisoformat),  # before date
    dt.date: ("date", dt.date.isoformat, dt.date.fromisoformat),
    bytes: ("bytes", lambda b: base64.b64encode(b).decode(), base64.b64decode),
    memoryview: ("bytes", lambda b: base64.b64encode(b).decode(), base64.b64decode),
    dict: ("json", dict, dict),
}
