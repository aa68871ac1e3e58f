"""A small office of requests, and what a test may ask of a user's database."""

import re
from dataclasses import dataclass
from types import SimpleNamespace

import sqlalchemy as sa

from compliance.access.identity import Identity
from compliance.access.rbac import Authority
from compliance.crypto.keys import Keyring
from compliance.policy import Method, Policy
from compliance.rights import datamap
from compliance.rights.connectors import schema
from compliance.rights.request import Requests
from compliance.store import Store
from compliance.trail.log import Trail

ACTIONS = ["submit", "identify", "plan", "approve", "erase", "verify", "read"]


def person(name):
    return Identity(name, Method.OS, name)


ANNA, BEN, EVE = person("anna"), person("ben"), person("eve")


@dataclass
class Database:
    """A user's database: its URL, how it spells names, and what is in it."""

    url: str
    engine: str

    def name(self, pascal):
        return datamap.words(pascal) if self.engine == "postgresql" else pascal

    def connect(self):
        return schema.open_engine(self.url)

    def execute(self, *statements):
        engine = self.connect()
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.commit()
        engine.dispose()

    def scalar(self, statement):
        engine = self.connect()
        with engine.connect() as connection:
            value = connection.exec_driver_sql(statement).scalar()
        engine.dispose()
        return value

    def snapshot(self):
        """Return every row of every table, by its key or as a whole."""
        engine = self.connect()
        with engine.connect() as connection:
            tables = schema.Tables.reflect(connection)
            found = {}
            for name in tables:
                key = tables.key(name) or tuple(tables[name].c.keys())
                rows = connection.execute(sa.select(tables[name])).mappings()
                found[name] = {tuple(r[c] for c in key): dict(r) for r in rows}
        engine.dispose()
        return found

    def counts(self):
        return {name: len(rows) for name, rows in self.snapshot().items()}


def load_script(url, path):
    """Run a Chinook script without its lines that make and choose the database."""
    text = path.read_text("utf-8-sig")
    text = text[text.index("CREATE TABLE") :]
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        for statement in re.split(r";[ \t]*\r?\n", text):
            if statement.strip():
                connection.exec_driver_sql(statement.replace("%", "%%"))
        connection.commit()
    engine.dispose()


def make_policy(stores, *, members=("anna", "ben"), retention=None, digest="", regulations=None):
    roles = {
        "officer": {"members": members, "allow": [{"object": "request/*", "actions": ACTIONS}]},
        "clerk": {"members": ["eve"], "allow": [{"object": "request/*", "actions": ["submit"]}]},
    }
    laws = {
        "gdpr": {"name": "Regulation (EU) 2016/679", "months": 1, "article": "Art. 12(3)"},
        "ccpa": {"name": "CCPA", "days": 45, "article": "1798.130(a)(2)"},
    }
    return Policy(
        roles=roles,
        regulations=regulations or laws,
        stores=stores,
        retention=retention or {},
        digest=digest,
    )


def open_office(folder, policy, **options):
    """Return the requests of an audit store in a folder, and its parts."""
    store = Store.open(f"sqlite:///{folder / 'own.db'}")
    ring = Keyring.open(store, folder / "master.json")
    trail = Trail(store, ring.signer())
    requests = Requests(store, trail, ring, policy, Authority(policy), **options)
    return SimpleNamespace(
        requests=requests, store=store, ring=ring, trail=trail, policy=policy, folder=folder
    )
