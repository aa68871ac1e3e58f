"""Instances: changed keys, what was erased, and the models that are made of them."""

import pickle
from uuid import UUID

import pytest
import sqlalchemy as sa
from epochs import mark
from pydantic import BaseModel, ConfigDict
from sqlmodel import Field, Session, SQLModel, select

from compliance.crypto.orm import Encrypted, EncryptedRow, bind, erased, row_key
from compliance.errors import InputError


class World(SQLModel, registry=sa.orm.registry()):
    metadata = sa.MetaData()


class Customer(World, table=True):
    id: UUID = Field(default_factory=row_key, primary_key=True)
    name: str = "n"
    email: str | None = Field(default=None, sa_type=Encrypted(str))
    iban: str | None = Field(default=None, sa_type=EncryptedRow(str, subject=("customer", "id")))
    diary: str | None = Field(default=None, sa_type=EncryptedRow(str, subject=("customer", "id")))


class Visit(World, table=True):
    site: str = Field(primary_key=True, max_length=9)
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    who: UUID
    finding: str | None = Field(
        default=None, sa_type=EncryptedRow(str, subject=("customer", "who"))
    )
    dose: float | None = Field(
        default=None, sa_type=EncryptedRow(float, subject=("customer", "who"))
    )


class Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    name: str
    iban: str | None


class Shown(SQLModel):
    name: str
    iban: str | None = None
    visits: int = 0


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def engine(request, tmp_path, ring):
    url = f"sqlite:///{tmp_path / 'user.db'}"
    if request.param != "sqlite":
        server = {"postgresql": "postgres_url", "mariadb": "mariadb_url"}[request.param]
        url = request.getfixturevalue(server)
    made = sa.create_engine(url)
    bind(World, ring)
    World.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def session(engine):
    with Session(engine) as opened:
        yield opened


def _add(session, **given):
    customer = Customer(**{"iban": "DE89", "diary": "d", "email": "e"} | given)
    session.add(customer)
    session.commit()
    return customer


def _erase(ring, who):
    with ring.store.writing() as connection:
        ring.destroy_subject(connection, "customer", who)


def _raw(session, column="iban", table="customer"):
    return session.execute(sa.text(f"SELECT {column} FROM {table}")).scalars().all()


# -- changed keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"iban": "GB29"}, {"iban": None, "name": "m"}], ids=str)
def test_a_changed_key_that_is_the_subject_seals_the_cells_anew(more, session, ring):
    customer = _add(session)
    former, customer.id = customer.id, row_key()
    for name, value in more.items():
        setattr(customer, name, value)
    session.commit()
    changed = customer.id
    _erase(ring, former)
    session.expunge_all()
    found = session.get(Customer, changed)
    assert (found.iban, found.diary, found.email) == (more.get("iban", "DE89"), "d", "e")
    _erase(ring, changed)
    session.expire_all()
    assert found.diary is None


def test_a_cell_changes_alone_where_the_key_is_the_subject(session):
    customer = _add(session)
    before = _raw(session, "diary")
    customer.iban = "GB29"
    session.commit()
    assert _raw(session, "diary") == before
    assert (customer.iban, customer.diary) == ("GB29", "d")


def test_part_of_a_key_and_the_subject_change_together(session):
    session.add(Visit(site="s", number=1, who=row_key(), finding="f", dose=1.0))
    session.commit()
    visit = session.get(Visit, ("s", 1))
    visit.number, visit.who = 2, row_key()
    session.commit()
    assert (visit.finding, visit.dose) == ("f", 1.0)


def test_a_statement_takes_the_subject_from_its_values_or_its_where(session, ring):
    first, second = row_key(), row_key()
    session.add(Visit(site="s", number=1, who=first, finding="f", dose=1.0))
    session.commit()
    mine = sa.update(Visit).where(Visit.site == "s", Visit.number == 1)
    session.execute(mine.where(Visit.who == first).values(finding="g"))
    with pytest.raises(InputError, match="who"):
        session.execute(mine.values(finding="h"))
    with pytest.raises(InputError, match="former value"):
        session.execute(mine.values(finding="h", who=second))
    session.execute(mine.values(finding="h", who=second, dose=None))
    session.commit()
    _erase(ring, first)
    visit = session.get(Visit, ("s", 1))
    assert (visit.finding, visit.dose, visit.who) == ("h", None, second)


# -- what was erased -------------------------------------------------------------------------------


def test_what_was_erased_is_none_and_told_from_what_never_was(session, ring):
    customer, other = _add(session), _add(session, iban=None)
    _erase(ring, customer.id)
    session.expire_all()
    assert erased(customer) == {"iban", "diary"}
    assert (customer.iban, customer.email, other.iban) == (None, "e", None)
    assert erased(other) == frozenset()
    assert session.dirty == sa.util.IdentitySet()


@pytest.mark.parametrize("model", [Out, Shown])
def test_a_response_model_shows_what_was_erased_as_null(model, session, ring):
    customer = _add(session)
    shown = model.model_validate(customer, from_attributes=True)
    assert shown.iban == "DE89"
    _erase(ring, customer.id)
    session.expire_all()
    shown = model.model_validate(customer, from_attributes=True)
    assert shown.iban is None
    assert '"iban":null' in shown.model_dump_json()
    assert '"iban":null' in customer.model_dump_json()
    assert Shown.model_validate(customer, update={"visits": 2}).visits == 2


def test_saving_what_was_erased_changes_nothing_in_the_database(session, ring):
    customer = _add(session)
    before = _raw(session), _raw(session, "diary")
    _erase(ring, customer.id)
    session.expire_all()
    for name, value in customer.model_dump().items():
        setattr(customer, name, value)
    customer.name = "changed"
    session.commit()
    session.merge(pickle.loads(pickle.dumps(customer)))
    session.commit()
    assert (_raw(session), _raw(session, "diary")) == before
    assert erased(customer) == {"iban", "diary"}


def test_who_comes_back_has_values_beside_what_was_erased(session, ring):
    customer = _add(session)
    _erase(ring, customer.id)
    session.expire_all()
    assert customer.iban is None
    customer.iban = "GB29"
    assert erased(customer) == {"diary"}
    session.commit()
    assert (customer.iban, erased(customer)) == ("GB29", {"diary"})
    customer.iban = None
    session.flush()
    assert erased(customer) == {"diary"}
    session.rollback()
    assert (customer.iban, erased(customer)) == ("GB29", {"diary"})


def test_what_was_erased_is_cleared_by_a_statement(session, ring):
    customer = _add(session)
    _erase(ring, customer.id)
    session.expire_all()
    assert erased(customer) == {"iban", "diary"}
    session.execute(sa.update(Customer).where(Customer.id == customer.id).values(iban=None))
    assert erased(customer) == {"diary"}
    session.commit()
    assert (erased(customer), _raw(session)) == ({"diary"}, [None])


def test_a_change_that_would_lose_what_was_erased_is_refused_with_the_way_out(session, ring):
    who = row_key()
    visit = Visit(site="s", number=1, who=who, finding="f", dose=1.0)
    session.add(visit)
    session.commit()
    _erase(ring, who)
    for change in ({"who": row_key()}, {"number": 2}, {"finding": "again"}):
        session.rollback()
        assert erased(visit) == {"finding", "dose"}
        for name, value in change.items():
            setattr(visit, name, value)
        with pytest.raises(InputError, match=r"update\(T\)"):
            session.flush()
    session.rollback()
    session.execute(sa.update(Visit).where(Visit.site == "s").values(finding=None, dose=None))
    visit.who, visit.finding = row_key(), "again"
    session.commit()
    assert (visit.finding, visit.dose, erased(visit)) == ("again", None, frozenset())


def test_erased_loads_what_is_deferred_and_takes_instances_only(session, ring):
    customer = _add(session)
    _erase(ring, customer.id)
    session.expunge_all()
    only = sa.orm.load_only(Customer.id)
    found = session.exec(select(Customer).options(only)).one()
    assert erased(found) == {"iban", "diary"}
    for wrong in (Customer, None, "x"):
        with pytest.raises(InputError, match="instance"):
            erased(wrong)


def test_a_column_whose_key_was_destroyed_is_none_too(session, ring):
    customer = _add(session)
    mark(ring, ring.column("customer", "email").id, destroyed="2026-01-01", wrapped=None)
    session.expire_all()
    assert (customer.email, erased(customer)) == (None, {"email"})
