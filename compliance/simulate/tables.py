"""The schema of the simulated bank, and its data map: what each link says about a person."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

METADATA = sa.MetaData()


def _key(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, primary_key=True, autoincrement=False)


def _link(name: str, target: str, *, nullable: bool = False, key: bool = False) -> sa.Column[int]:
    parent = sa.ForeignKey(target)
    return sa.Column(name, sa.Integer, parent, nullable=nullable, primary_key=key, index=not key)


def _text(
    name: str, length: int, *, nullable: bool = False, unique: bool = False
) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable, unique=unique or None)


def _whole(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


def _decimal(name: str, digits: int, places: int) -> sa.Column[float]:
    kind: sa.Numeric[float] = sa.Numeric(digits, places, asdecimal=False)
    return sa.Column(name, kind, nullable=False)


def _day(name: str) -> Any:
    return sa.Column(name, sa.Date, nullable=False)


STAFF = sa.Table(
    "staff",
    METADATA,
    _key("staff_id"),
    _text("name", 100),
    _text("email", 150, unique=True),
    _link("manager_id", "staff.staff_id", nullable=True),
)
CUSTOMER = sa.Table(
    "customer",
    METADATA,
    _key("customer_id"),
    _text("name", 100),
    _text("email", 150, unique=True),
    _text("phone", 30, nullable=True),
    _day("birth_date"),
    _text("street", 100),
    _text("city", 100),
    _text("postcode", 10),
    _text("iban", 34, unique=True),
    _text("sex", 1),
)
# `staff_id` is who handles the application; null until somebody does.
APPLICATION = sa.Table(
    "application",
    METADATA,
    _key("application_id"),
    _link("customer_id", "customer.customer_id"),
    _link("staff_id", "staff.staff_id", nullable=True),
    _whole("age"),
    _whole("income"),
    _whole("debt"),
    _whole("amount"),
    _decimal("years_employed", 4, 1),
    _text("purpose_text", 200, nullable=True),
    _whole("repaid"),
    _day("submitted_on"),
)
PAYMENT = sa.Table(
    "payment",
    METADATA,
    _key("payment_id"),
    _link("customer_id", "customer.customer_id"),
    _link("counterparty_customer_id", "customer.customer_id", nullable=True),
    _decimal("amount", 10, 2),
    _day("paid_on"),
    _text("reference", 200, nullable=True),
)
NOTE = sa.Table(
    "note",
    METADATA,
    _key("note_id"),
    _link("customer_id", "customer.customer_id"),
    _link("staff_id", "staff.staff_id"),
    sa.Column("body", sa.Text, nullable=False),
)
CONSENT_RECORD = sa.Table(
    "consent_record",
    METADATA,
    _link("customer_id", "customer.customer_id", key=True),
    sa.Column("purpose", sa.String(100), primary_key=True),
    sa.Column("given", sa.Boolean, nullable=False),
    _day("recorded_on"),
)
# `staff_id` is null where the machine decided alone.
DECISION = sa.Table(
    "decision",
    METADATA,
    _key("decision_id"),
    _link("application_id", "application.application_id"),
    _text("outcome", 10),
    _day("decided_on"),
    _link("staff_id", "staff.staff_id", nullable=True),
)

_OWNED = {
    "application.customer_id": ("customer.customer_id", "the application is the customer's own"),
    "payment.customer_id": ("customer.customer_id", "the customer made the payment"),
    "note.customer_id": ("customer.customer_id", "the note is about the customer"),
    "consent_record.customer_id": ("customer.customer_id", "the customer's own choice"),
    "decision.application_id": ("application.application_id", "a decision about the applicant"),
}
_ACTED = {
    "application.staff_id": ("staff.staff_id", "handled the application as an employee"),
    "note.staff_id": ("staff.staff_id", "wrote the note as an employee"),
    "staff.manager_id": ("staff.staff_id", "manages the employee; the row is about the other"),
    "decision.staff_id": ("staff.staff_id", "took the decision as an employee"),
}
_SHARED = {
    "payment.counterparty_customer_id": (
        "customer.customer_id",
        "the payer's record as well: kept, and detached from the counterparty",
    ),
}
_PERSONAL = {
    "customer": "name email phone birth_date street city postcode iban sex",
    "staff": "name email",
    "application": "age income debt years_employed purpose_text",
    "payment": "reference",
    "note": "body",
}


def data_map(url: str) -> dict[str, Any]:
    """Return the data map of the bank: a `compliance.policy.Store` as plain YAML values."""
    meanings = {"owned": _OWNED, "acted": _ACTED, "shared": _SHARED}
    return {
        "url": url,
        "subjects": [
            {"table": "customer", "key": "customer_id", "identifiers": ["email"]},
            {"table": "staff", "key": "staff_id", "identifiers": ["email"]},
        ],
        "edges": [
            {"child": child, "parent": parent, "meaning": meaning, "reason": reason}
            for meaning, edges in meanings.items()
            for child, (parent, reason) in edges.items()
        ],
        "personal": {table: columns.split() for table, columns in _PERSONAL.items()},
    }
