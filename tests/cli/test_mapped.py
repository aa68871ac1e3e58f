"""A user's own class is found by its name, and bound to the project's keys."""

import sys

import pytest
import sqlalchemy as sa

from compliance.cli.mapped import bound_table
from compliance.crypto.keys import Keyring
from compliance.crypto.orm_types import RING
from compliance.errors import InputError
from compliance.store import Store

SHOP = """
from sqlmodel import SQLModel, Field
import sqlalchemy as sa
class Customer(SQLModel, table=True):
    metadata = sa.MetaData()
    id: int = Field(primary_key=True)
"""


@pytest.fixture
def ring(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'keys.db'}")
    yield Keyring.open(store, tmp_path / "master.json")
    store.close()


def test_a_mapped_class_in_the_projects_folder_is_imported_and_bound(ring, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "shop_of_test_mapped.py").write_text(SHOP)
    table = bound_table("shop_of_test_mapped:Customer", ring, tmp_path)
    assert isinstance(table, sa.Table)
    assert table.metadata.info[RING] is ring


@pytest.mark.parametrize(
    "name", ["", ":", "json", "json:dumps", "json:no", "no_such_module:X", "..:x"]
)
def test_what_is_no_table_is_refused(ring, tmp_path, monkeypatch, name):
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(InputError, match=r"MODULE|names no"):
        bound_table(name, ring, tmp_path)
