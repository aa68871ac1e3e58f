"""What encrypted columns cost a session: rows written and read a second of CPU, beside plain ones.

Run: ``python benchmarks/orm.py [ROWS] [--peers]``. A row has a key made by the client and two
texts of 50 bytes; SQLite in memory, one flush, one select of all instances; CPU time, best of
three. sqlalchemy-utils runs in an environment of its own, with a plain table beside it. Without
``--peers`` nothing is installed and a missing peer is listed.
"""

import inspect
import sys
import tempfile
import uuid
from pathlib import Path

import sqlalchemy as sa
from _peers import LeftOutError, measure, run, venv
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from compliance.crypto.keys import Keyring
from compliance.crypto.orm import Encrypted, EncryptedRow, bind
from compliance.store import Store

ROWS = 5_000
IMPORTS = """
import json, sys, uuid
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy_utils import StringEncryptedType
from sqlalchemy_utils.types.encrypted.encrypted_type import AesEngine, AesGcmEngine, FernetEngine
from _peers import measure
"""
PEER = """
def sealed(engine):
    return lambda: StringEncryptedType(sa.Unicode, "a passphrase", engine)
kinds = {"plain, peer's environment": lambda: sa.Unicode(99)}
for engine in (AesEngine, AesGcmEngine, FernetEngine):
    kinds[f"sqlalchemy-utils {engine.__name__}"] = sealed(engine)
print(json.dumps({k: rates(model(v)[1], int(sys.argv[1])) for k, v in kinds.items()}))
"""


def model(kind):
    """Return a declarative base and a class with two columns of a type."""

    class Base(DeclarativeBase):
        pass

    class Row(Base):
        __tablename__ = "row"
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
        one: Mapped[str] = mapped_column(kind())
        two: Mapped[str] = mapped_column(kind())

    return Base, Row


def rates(row, count):
    """Return the rows written and read a second of CPU."""
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    row.metadata.create_all(engine)
    texts = [f"{number:050}" for number in range(count)]

    def write():
        with Session(engine) as session:
            session.execute(sa.delete(row))
            session.add_all([row(id=uuid.uuid4(), one=text, two=text) for text in texts])
            session.commit()

    def read():
        with Session(engine) as session:
            found = session.execute(sa.select(row)).scalars().all()
            assert sorted(r.one for r in found) == texts

    return [count / measure(function, 3).best for function in (write, read)]


def ours(count: int) -> dict[str, list[float]]:
    """Return our rates: plain, bound to the column, and to the row."""
    kinds = {
        "plain": lambda: sa.Unicode(99),
        "Encrypted": lambda: Encrypted(str),
        "EncryptedRow": lambda: EncryptedRow(str),
    }
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(f"sqlite:///{folder}/keys.db")
        ring = Keyring.open(store, Path(folder) / "keys" / "master.json")
        found = {}
        for name, kind in kinds.items():
            base, row = model(kind)
            bind(base, ring)
            found[name] = rates(row, count)
        store.close()
    return found


def peers(count: int) -> dict[str, list[float]]:
    """Return the rates of sqlalchemy-utils; nothing where it is left out."""
    needed = ["sqlalchemy-utils==0.43.0", "sqlalchemy==2.0.44", "cryptography==50.0.2"]
    script = "\n".join([IMPORTS, inspect.getsource(model), inspect.getsource(rates), PEER])
    try:
        return run(venv("sqlalchemy-utils", needed), script, str(count))  # type: ignore[return-value]  # two rates each
    except LeftOutError as reason:
        print(f"left out: sqlalchemy-utils ({reason})")
        return {}


def main() -> None:
    """Print rows a second, and what a sealed cell costs over a plain one."""
    count = next((int(word) for word in sys.argv[1:] if word.isdigit()), ROWS)
    print(f"{'rows a second of CPU':<36}{'write':>9}{'read':>9}{'a cell more (us)':>22}")
    base = [1.0, 1.0]
    for name, found in (ours(count) | peers(count)).items():
        base = found if name.startswith("plain") else base
        more = [(1 / rate - 1 / plain) / 2 * 1e6 for rate, plain in zip(found, base, strict=True)]
        print(f"{name:<36}{found[0]:>9,.0f}{found[1]:>9,.0f}{more[0]:>12.1f}{more[1]:>10.1f}")


if __name__ == "__main__":
    main()
