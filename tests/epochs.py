"""Epochs of keys, made as a rotation in another process makes them."""

import sqlalchemy as sa

from compliance.crypto.hierarchy import KEY


def rotate(ring, kind, name):
    """Give a key a newer epoch; return its id."""
    return ring.keys.advance(kind, name).id


def mark(ring, key_id, **values):
    """Write the state of a key, such as destroyed or retired."""
    with ring.store.writing() as connection:
        connection.execute(sa.update(KEY).where(KEY.c.id == key_id).values(values))
    forget_caches(ring)


def forget_caches(ring):
    """Have a ring read its keys again, as it does after a minute."""
    ring.keys.cache.clear()
