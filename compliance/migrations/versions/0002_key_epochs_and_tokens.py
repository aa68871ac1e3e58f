"""Epochs, masters and counts of keys; tokens.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what rotation needs to know of a key, and the token vault."""
    op.add_column("compliance_key", sa.Column("retired", sa.String(), nullable=True))
    op.add_column("compliance_key", sa.Column("mac", sa.LargeBinary(), nullable=True))
    op.add_column("compliance_key", sa.Column("wrapper", sa.String(), nullable=True))
    op.add_column(
        "compliance_key", sa.Column("sealed", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.create_table(
        "compliance_token",
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("space", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("token"),
        sa.UniqueConstraint("tenant", "space", "digest"),
    )
