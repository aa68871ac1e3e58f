"""Which keys seal a table, and what its cells look like to logs, frames and migrations."""

import logging
import subprocess
import sys
from uuid import UUID

import pandas as pd
import pytest
import sqlalchemy as sa
from conftest import ROOT
from sqlmodel import Field, Session, SQLModel

from compliance import frames
from compliance.crypto import columns
from compliance.crypto.keys import Keyring
from compliance.crypto.orm import Encrypted, EncryptedRow, bind, render_item, row_key
from compliance.errors import ConfigurationError, DecryptionFailed

SECRET = "DE89370400440532013000"


class World(SQLModel, registry=sa.orm.registry()):
    metadata = sa.MetaData()


class Client(World, table=True):
    id: UUID = Field(default_factory=row_key, primary_key=True)
    name: str
    email: str = Field(sa_type=Encrypted(str))
    iban: str | None = Field(default=None, sa_type=EncryptedRow(str))


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def user_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'user.db'}"
    server = {"postgresql": "postgres_url", "mariadb": "mariadb_url"}[request.param]
    return request.getfixturevalue(server)


@pytest.fixture
def here(tmp_path, ring):
    made = sa.create_engine(f"sqlite:///{tmp_path / 'user.db'}")
    bind(World, ring)
    World.metadata.create_all(made)
    yield made
    made.dispose()


def _add(engine, *things):
    with Session(engine, expire_on_commit=False) as session:
        session.add_all(things)
        session.commit()
    return things[0]


def _client(**given):
    return Client(**{"name": "A", "email": "a@example.org", "iban": SECRET} | given)


def test_no_plaintext_reaches_the_logs(user_url, ring, caplog):
    engine = sa.create_engine(user_url, echo=True)
    bind(World, ring)
    try:
        with caplog.at_level(logging.INFO, logger="sqlalchemy"):
            World.metadata.create_all(engine)
            client = _add(engine, _client(), _client(name="B"))
            with Session(engine) as session:
                session.get(Client, client.id).iban = SECRET + "9"
                session.commit()
            with engine.begin() as connection:
                connection.execute(sa.update(Client).values(email="c@example.org"))
    finally:
        engine.dispose()
    assert "INSERT INTO client" in caplog.text
    assert SECRET not in caplog.text
    assert "example.org" not in caplog.text


def test_rows_that_would_be_logged_are_not_opened(here, caplog):
    client = _add(here, _client())
    with Session(here) as session, caplog.at_level(logging.DEBUG, logger="sqlalchemy.engine"):
        with pytest.raises(ConfigurationError, match="echo"):
            session.get(Client, client.id)
        sealed = session.execute(sa.select(Client.id, Client.iban)).one()
        assert sealed.iban.open(sealed.id) == SECRET
    assert "<sealed client.iban>" in caplog.text
    assert SECRET not in caplog.text
    assert "example.org" not in caplog.text
    with Session(here) as session:
        assert session.get(Client, client.id).email == "a@example.org"


def test_frames_and_columns_open_each_others_cells(here, ring):
    client = _add(here, _client())
    with here.connect() as connection:
        row = connection.exec_driver_sql("SELECT email, iban FROM client").one()
    frame = frames.wrap(pd.DataFrame({"email": [row[0]], "iban": [row[1]]}))
    opened = columns.decrypt(frame, ["email"], ring, table="client")
    opened = columns.decrypt(opened, ["iban"], ring, table="client", rows=[client.id])
    assert frames.native(opened).iloc[0].tolist() == ["a@example.org", SECRET]
    plain = frames.wrap(pd.DataFrame({"email": ["z@example.org"], "iban": ["Z"]}))
    sealed = columns.encrypt(plain, ["email"], ring, table="client")
    sealed = columns.encrypt(sealed, ["iban"], ring, table="client", rows=[client.id])
    with here.begin() as connection:
        cells = tuple(frames.native(sealed).iloc[0])
        connection.exec_driver_sql("UPDATE client SET email = ?, iban = ?", cells)
    with Session(here) as session:
        found = session.get(Client, client.id)
        assert (found.email, found.iban) == ("z@example.org", "Z")


def test_alembic_sees_no_difference_and_renders_bytes(user_url):
    from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
    from alembic.migration import MigrationContext

    options = {"compare_type": True, "render_item": render_item, "target_metadata": World.metadata}
    engine = sa.create_engine(user_url)
    World.metadata.create_all(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, World.metadata) == []
        connection.rollback()
        World.metadata.drop_all(engine)
        code = render_python_code(
            produce_migrations(context, World.metadata).upgrade_ops, render_item=render_item
        )
    engine.dispose()
    assert "sa.Column('iban', sa.LargeBinary(), nullable=True)" in code


def test_another_tenant_cannot_open_the_cells(here, store, key_file):
    client = _add(here, _client())
    bind(World, Keyring.open(store, key_file, tenant="other"))
    with Session(here) as session, pytest.raises(DecryptionFailed):
        session.get(Client, client.id)


def test_a_function_gives_the_keys_of_the_moment(here, store, key_file, ring):
    rings = {"one": ring, "two": Keyring.open(store, key_file, tenant="two")}
    now = "two"
    bind(World, lambda: rings[now])
    client = _add(here, _client())
    now = "one"
    with Session(here) as session, pytest.raises(DecryptionFailed):
        session.get(Client, client.id)


@pytest.mark.parametrize("wrong", [(1, None), (World, None), (None, 3)], ids=str)
def test_bind_takes_a_base_and_keys(wrong, ring):
    with pytest.raises(ConfigurationError):
        bind(*wrong)


def test_the_example_runs(tmp_path):
    run = subprocess.run(
        [sys.executable, ROOT / "examples" / "encrypted_table.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "refused" in run.stdout
