from compliance.dp.tables import BudgetAccount, BudgetReservation
from compliance.store import PREFIX, Table


def test_the_tables_are_ours():
    for table in (BudgetAccount, BudgetReservation):
        assert table.__tablename__.startswith(PREFIX)
        assert Table.metadata.tables[table.__tablename__] is table.__table__


def test_amounts_are_whole_numbers_of_64_bits():
    for table in (BudgetAccount, BudgetReservation):
        columns = table.__table__.columns
        amounts = [c for c in columns if "epsilon" in c.name or "delta" in c.name]
        assert {str(column.type) for column in amounts} == {"BIGINT"}


def test_no_column_holds_who_the_data_is_about():
    names = {column.name for column in BudgetReservation.__table__.columns}
    assert not names & {"subject", "row", "value"}
