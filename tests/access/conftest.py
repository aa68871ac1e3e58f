"""A policy of few roles and purposes, and consents over it."""

import pytest

from compliance.access.consent import Consents
from compliance.access.identity import Identity
from compliance.crypto.keys import Keyring
from compliance.policy import (
    Activity,
    Column,
    Dataset,
    IdentityRule,
    Method,
    Permission,
    Policy,
    Purpose,
    Role,
)
from compliance.store import Store
from compliance.trail.log import Trail


def may(obj, *actions):
    return Permission(object=obj, actions=actions)


@pytest.fixture(scope="session")
def policy():
    everything = Column(purposes=("lending", "support"))
    return Policy(
        identity=IdentityRule(least_method={"default": Method.ASSERTED, "erase": Method.OS}),
        roles={
            "reader": Role(members=("rita",), allow=(may("dataset/*", "read"),)),
            "trainer": Role(
                members=("tom",), inherits=("reader",), allow=(may("activity/credit-*", "run"),)
            ),
            "officer": Role(members=("olga",), inherits=("trainer",), allow=(may("*", "erase"),)),
            "impersonate": Role(members=("olga", "ian"), allow=(may("identity/*", "impersonate"),)),
        },
        purposes={
            "lending": Purpose(description="", basis="consent"),
            "support": Purpose(description="", basis="contract"),
        },
        datasets={
            "people": Dataset(
                subject="id",
                columns={
                    "id": everything,
                    "income": everything,
                    "note": Column(purposes=("support",)),
                },
            ),
            "prices": Dataset(columns={"price": everything}),
        },
        activities={
            "credit-scoring": Activity(purpose="lending", datasets=("people",)),
            "helpdesk": Activity(purpose="support", datasets=("people", "prices")),
        },
        digest="d" * 64,
    )


@pytest.fixture
def who():
    """Return a maker of identities, by default established by the operating system."""

    def make(actor, method=Method.OS, behalf=None):
        return Identity(actor, method, "svc", behalf)

    return make


@pytest.fixture
def store(tmp_path):
    opened = Store.open(f"sqlite:///{tmp_path / 'access.db'}")
    yield opened
    opened.close()


@pytest.fixture
def ring(store, tmp_path):
    return Keyring.open(store, tmp_path / "master.json")


@pytest.fixture
def trail(store, ring):
    return Trail(store, ring.signer())


@pytest.fixture
def consents(store, trail, ring, policy):
    return Consents(store, trail, ring, policy)
