"""First tables.

Revision ID: 0001
Revises: nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table of the first version."""
    op.create_table(
        "compliance_budget_account",
        sa.Column("budget", sa.String(), nullable=False),
        sa.Column("epsilon", sa.BigInteger(), nullable=False),
        sa.Column("delta", sa.BigInteger(), nullable=False),
        sa.Column("epsilon_cap", sa.BigInteger(), nullable=False),
        sa.Column("delta_cap", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("budget"),
    )
    op.create_table(
        "compliance_budget_reservation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("budget", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("activity", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reserved_at", sa.String(), nullable=False),
        sa.Column("epsilon", sa.BigInteger(), nullable=False),
        sa.Column("delta", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.String(), nullable=True),
        sa.Column("settled_epsilon", sa.BigInteger(), nullable=True),
        sa.Column("settled_delta", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_compliance_budget_reservation_budget"),
        "compliance_budget_reservation",
        ["budget"],
        unique=False,
    )
    op.create_table(
        "compliance_consent_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("time", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("entry", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_compliance_consent_event_entry"),
        "compliance_consent_event",
        ["entry"],
        unique=False,
    )
    op.create_index(
        "ix_compliance_consent_event_lookup",
        "compliance_consent_event",
        ["purpose", "reference"],
        unique=False,
    )
    op.create_table(
        "compliance_key",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("wrapped", sa.LargeBinary(), nullable=True),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("destroyed", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant", "kind", "name", "epoch"),
    )
    op.create_table(
        "compliance_request",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("regulation", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("submitter", sa.String(), nullable=False),
        sa.Column("approver", sa.String(), nullable=True),
        sa.Column("received", sa.String(), nullable=False),
        sa.Column("due", sa.String(), nullable=False),
        sa.Column("closed", sa.String(), nullable=True),
        sa.Column("ground", sa.String(), nullable=True),
        sa.Column("open_reference", sa.String(), nullable=True),
        sa.Column("subject", sa.LargeBinary(), nullable=True),
        sa.Column("found", sa.Text(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=True),
        sa.Column("digest", sa.String(), nullable=True),
        sa.Column("certificate", sa.Text(), nullable=True),
        sa.Column("lease", sa.String(), nullable=True),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("open_reference"),
    )
    op.create_index(
        op.f("ix_compliance_request_state"), "compliance_request", ["state"], unique=False
    )
    op.create_table(
        "compliance_request_step",
        sa.Column("request", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("store", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("visible", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("finished", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("request", "generation", "store"),
    )
    op.create_table(
        "compliance_trail_entry",
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=True),
        sa.Column("time", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("activity", sa.String(), nullable=True),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("index"),
    )
    op.create_index(
        op.f("ix_compliance_trail_entry_activity"),
        "compliance_trail_entry",
        ["activity"],
        unique=False,
    )
    op.create_index(
        op.f("ix_compliance_trail_entry_actor"), "compliance_trail_entry", ["actor"], unique=False
    )
    op.create_index(
        op.f("ix_compliance_trail_entry_event"), "compliance_trail_entry", ["event"], unique=False
    )
    op.create_index(
        op.f("ix_compliance_trail_entry_subject"),
        "compliance_trail_entry",
        ["subject"],
        unique=False,
    )
    op.create_index(
        op.f("ix_compliance_trail_entry_time"), "compliance_trail_entry", ["time"], unique=False
    )
    op.create_table(
        "compliance_trail_head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("frontier", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
