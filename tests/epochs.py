"""Epochs of keys, made in the database as a rotation in another process makes them."""

import sqlalchemy as sa

from compliance.crypto.tables import WrappedKey


def rotate(ring, kind, name):
    """Give a key a newer epoch; return its id."""
    table = WrappedKey.__table__
    other = ring.named(kind, f"{name} made for its material")
    with ring.store.writing() as connection:
        mine = (table.c.kind == kind) & (table.c.name == name) & (table.c.tenant == ring.tenant)
        last = connection.execute(sa.select(sa.func.max(table.c.epoch)).where(mine)).scalar_one()
        moved = sa.update(table).where(table.c.id == other.id)
        connection.execute(moved.values(name=name, epoch=last + 1))
    forget_caches(ring)
    return other.id


def mark(ring, key_id, **values):
    """Write the state of a key, such as destroyed or retired."""
    table = WrappedKey.__table__
    with ring.store.writing() as connection:
        connection.execute(sa.update(table).where(table.c.id == key_id).values(values))
    forget_caches(ring)


def forget_caches(ring):
    """Have a ring read its keys again, as it does after a minute."""
    for name in ("_cache", "_names"):
        getattr(ring, name).clear()
