"""The rows behind tokens, read and altered past the vault."""

from pathlib import Path

import sqlalchemy as sa

from compliance.crypto.tables import Token

TABLE = Token.__table__


def rows(ring):
    """Return every row of every tenant and space."""
    with ring.store.reading() as connection:
        return connection.execute(sa.select(TABLE).order_by(TABLE.c.token)).all()


def change(ring, name, **values):
    """Write into the row of a token what somebody else may write there."""
    with ring.store.writing() as connection:
        connection.execute(sa.update(TABLE).where(TABLE.c.token == name).values(values))


def on_disk(url):
    """Return every byte of an SQLite database and its log."""
    database = Path(url.removeprefix("sqlite:///"))
    return b"".join(path.read_bytes() for path in database.parent.glob(f"{database.name}*"))
