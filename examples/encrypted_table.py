"""A table whose cells are sealed: write, read, exchange two rows' cells, erase a person.

    python examples/encrypted_table.py

Everything happens in a temporary folder.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Field, Session, SQLModel, create_engine, select

from compliance.crypto.keys import Keyring
from compliance.crypto.orm import Encrypted, EncryptedRow, bind, erased, row_key
from compliance.errors import DecryptionFailed
from compliance.store import Store


class Customer(SQLModel, table=True):
    """A customer; the database holds neither the address nor the account."""

    id: UUID = Field(default_factory=row_key, primary_key=True)
    email: str = Field(sa_type=Encrypted(str, pad=64))
    iban: str | None = Field(default=None, sa_type=EncryptedRow(str, subject=("customer", "id")))


def main() -> None:
    """Run the example."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Store.open(f"sqlite:///{folder}/keys.db")  # with a guard: guard.keys
        ring = Keyring.open(keys, Path(folder) / "keys" / "master.json")
        bind(SQLModel.metadata, ring)
        engine = create_engine(f"sqlite:///{folder}/shop.db", hide_parameters=True)
        SQLModel.metadata.create_all(engine)
        ada, bob = fill(engine)
        print("in the database:", len(raw(engine)[0]), "bytes of", raw(engine)[0][:5].hex(), "...")
        erase(ring, ada)
        with Session(engine) as session:
            for customer in session.exec(select(Customer).order_by(sa.column("id"))):
                print(customer.email, "->", customer.iban)
            print("erased:", *erased(session.get_one(Customer, ada)))
        exchange(engine, ada, bob)
        engine.dispose()
        keys.close()


def fill(engine: sa.Engine) -> tuple[UUID, UUID]:
    """Write two customers."""
    with Session(engine) as session:
        ada = Customer(email="ada@example.org", iban="DE89370400440532013000")
        bob = Customer(email="bob@example.org", iban="GB29NWBK60161331926819")
        session.add_all([ada, bob])
        session.commit()
        return ada.id, bob.id


def raw(engine: sa.Engine) -> list[bytes]:
    """Return what the database holds."""
    with engine.connect() as connection:
        return list(connection.execute(sa.text("SELECT iban FROM customer")).scalars())


def erase(ring: Keyring, customer: UUID) -> None:
    """Destroy a customer's own key: the account is gone, from every backup too."""
    with ring.store.writing() as connection:
        ring.destroy_subject(connection, "customer", customer)


def exchange(engine: sa.Engine, ada: UUID, bob: UUID) -> None:
    """Give Ada the account of Bob, as somebody with the database's password could."""
    copy = "UPDATE customer SET iban = (SELECT iban FROM customer WHERE id = ?) WHERE id = ?"
    with engine.begin() as connection:
        connection.exec_driver_sql(copy, (bob.hex, ada.hex))
    try:
        with Session(engine) as session:
            session.get(Customer, ada)
    except DecryptionFailed as error:
        print("refused:", error)


if __name__ == "__main__":
    main()
