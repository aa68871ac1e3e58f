"""Encrypted columns for SQLModel and SQLAlchemy::

    from compliance.crypto.orm import Encrypted, EncryptedRow, bind, row_key

    class Customer(SQLModel, table=True):
        id: UUID = Field(default_factory=row_key, primary_key=True)
        email: str = Field(sa_type=Encrypted(str))
        iban: str | None = Field(default=None, sa_type=EncryptedRow(str))

    bind(SQLModel.metadata, guard.keys)

`Encrypted` binds tenant, table and column; `EncryptedRow` binds the row too. Statements,
logs and error messages of SQLAlchemy see sealed cells only.
"""  # noqa: D415  the sentence introduces the example

from __future__ import annotations

from typing import Any, Literal

from compliance.crypto import orm_rows
from compliance.crypto.orm_cells import ERASED, PUBLIC, Erased, Sealed, row_key
from compliance.crypto.orm_rows import erased
from compliance.crypto.orm_survey import Unreadable, unreadable
from compliance.crypto.orm_types import Encrypted, EncryptedRow, bind

__all__ = [
    "ERASED",
    "Encrypted",
    "EncryptedRow",
    "Erased",
    "Sealed",
    "Unreadable",
    "bind",
    "erased",
    "render_item",
    "row_key",
    "unreadable",
]


def render_item(kind: str, item: object, context: Any) -> str | Literal[False]:
    """Render encrypted types in Alembic's migrations; ``context.configure(render_item=...)``.

    A migration stores what a column is in the database, which is bytes: it must run without
    keys, and without this package.
    """
    del context
    return "sa.LargeBinary()" if kind == "type" and isinstance(item, Encrypted) else False


assert __name__ == PUBLIC  # noqa: S101  where reprs and pickles look for the types
orm_rows.install()
