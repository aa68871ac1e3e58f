"""The simulated bank: a database, a lake of events and files, all from one seed.

The demo, the tests and the examples work on it. Nobody in it exists (see `people`),
and equal arguments give equal rows and, for CSV, equal bytes.
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from compliance import frames
from compliance.errors import InputError
from compliance.simulate import people, tables
from compliance.simulate.rows import BOUNDS, Recipe, Row, Rows, build, judged_good
from compliance.store import Store, connect

__all__ = ["APPLICANT_COLUMNS", "BOUNDS", "Bank", "create_database"]

APPLICANT_COLUMNS = (
    "customer_id", "age", "income", "debt", "amount", "years_employed",
    "sex", "repaid", "name", "email",
)  # fmt: skip
"""Columns of `Bank.applicants`: those of the data set ``applicants`` in policies/datasets.yaml."""

LAKE_DAYS = tuple(dt.date(2026, 6, 22) + dt.timedelta(days=n) for n in range(5))
EVENTS = ("login", "logout", "statement", "transfer", "card-blocked", "offer-viewed")
PRODUCTS = ("car", "home", "study", "small-business")
CHANNELS = ("branch", "web", "app")
_CHUNK = 5_000


@dataclass(frozen=True)
class Bank:
    """A simulated bank on disk; holds no connection between calls.

    Attributes:
        folder: holds ``bank.db``, ``lake/events/date=*/part-0.parquet`` and ``exports/*.csv``.
        url: SQLAlchemy URL of the database; kept out of the repr, it may hold a password.
    """

    folder: Path
    url: str = field(repr=False)

    @classmethod
    def create(
        cls,
        folder: Path | str,
        *,
        customers: int = 2000,
        seed: int = 7,
        bias: float = 0.0,
        applications_each: int = 1,
        url: str = "",
    ) -> Bank:
        """Write a new bank and return it.

        Args:
            folder: where to; made if missing.
            customers: how many.
            seed: equal arguments give equal banks.
            bias: see `Recipe`; 0 gives a fair bank, 1.5 one that fails the four-fifths rule.
            applications_each: applications of each customer.
            url: an empty database to fill instead of ``bank.db``.

        Raises:
            InputError: an argument out of range, or there is a bank already.
            StoreError: the database cannot be reached or written.
        """
        recipe = Recipe(customers, seed, bias, applications_each)
        bank = cls.open(folder, url)
        rows = build(recipe)
        # A bank that is there is refused before a file is touched, and the database is
        # committed last: after a crash the same call starts over and finishes.
        with _writable(bank.folder):
            bank.folder.mkdir(parents=True, exist_ok=True)
            _require_empty(bank.url)
            _write_exports(bank.folder / "exports", recipe, rows)
            _write_lake(bank.folder / "lake" / "events", recipe)
        _fill(bank.url, rows)
        return bank

    @classmethod
    def open(cls, folder: Path | str, url: str = "") -> Bank:
        """Return a bank created before; nothing is read until a method asks."""
        folder = Path(folder).resolve()
        return cls(folder, url or f"sqlite:///{folder / 'bank.db'}")

    def applicants(self, backend: str = "pandas") -> Any:
        """Return one row for each application with `APPLICANT_COLUMNS`, in order of application.

        Raises:
            MissingExtra: the data frame library is not installed.
        """
        joined = tables.APPLICATION.join(tables.CUSTOMER)
        columns = [_column(name) for name in APPLICANT_COLUMNS]
        query = (
            sa.select(*columns).select_from(joined).order_by(tables.APPLICATION.c.application_id)
        )
        values = zip(*self._rows(query), strict=True)
        return frames.from_columns(
            dict(zip(APPLICANT_COLUMNS, map(list, values), strict=True)), backend
        )

    def consents(self) -> Iterator[tuple[int, str, bool]]:
        """Yield customer, purpose and whether consent was given (false: refused or objected)."""
        record = tables.CONSENT_RECORD.c
        query = sa.select(record.customer_id, record.purpose, record.given)
        for row in self._rows(query.order_by(record.customer_id, record.purpose)):
            yield row.customer_id, row.purpose, row.given

    def datamap(self, url: str = "") -> dict[str, Any]:
        """Return the value of ``stores: {bank: ...}`` in the policy.

        Args:
            url: what to write down instead of `url`, such as ``env:BANK_URL`` to keep a
                password out of the file.
        """
        return tables.data_map(url or self.url)

    def policy_overrides(self) -> dict[str, Any]:
        """Return the top-level policy keys that differ from the shipped ones for this bank."""
        return {"stores": {"bank": self.datamap()}}

    def _rows(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        with _opened(self.url) as store, store.reading() as connection:
            return connection.execute(query).all()


def create_database(
    url: str,
    *,
    customers: int = 2000,
    seed: int = 7,
    bias: float = 0.0,
    applications_each: int = 1,
) -> None:
    """Create and fill the bank's tables in an empty SQLite, PostgreSQL or MariaDB database.

    Raises:
        InputError: an argument out of range, or one of the tables is there already.
        MissingExtra: the driver is not installed.
        StoreError: the database cannot be reached or written.
    """
    rows = build(Recipe(customers, seed, bias, applications_each))
    _require_empty(url)
    _fill(url, rows)


def _fill(url: str, rows: Rows) -> None:
    """Write all or nothing; MariaDB commits each CREATE TABLE, so there empty tables may stay."""
    with _opened(url) as store, store.writing() as connection:
        tables.METADATA.create_all(connection)
        for table in tables.METADATA.sorted_tables:
            values = rows[table.name]
            for start in range(0, len(values), _CHUNK):
                connection.execute(table.insert(), values[start : start + _CHUNK])


def _require_empty(url: str) -> None:
    with _opened(url) as store, store.reading() as connection:
        there = set(sa.inspect(connection).get_table_names()) & set(tables.METADATA.tables)
    if there:
        raise InputError(
            f"the database already has a table {min(there)!r}; name an empty one, so that "
            "no bank is overwritten"
        )


@contextmanager
def _opened(url: str) -> Iterator[Store]:
    store = Store(connect(url))
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; name a folder you may write") from error


def _column(name: str) -> sa.Column[Any]:
    table = tables.APPLICATION if name in tables.APPLICATION.c else tables.CUSTOMER
    return table.c[name]


# -- files -----------------------------------------------------------------------


def _write_exports(folder: Path, recipe: Recipe, rows: Rows) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "applications.csv", _scored(recipe, rows))
    _write_csv(folder / "contacts.csv", _contacts(rows))
    _write_csv(folder / "clean.csv", _clean(recipe))


def _write_csv(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _scored(recipe: Recipe, rows: Rows) -> list[Row]:
    """Return half of the applications with label and prediction, without any identifier."""
    rng = recipe.stream("exports/applications")
    sexes = {c["customer_id"]: c["sex"] for c in rows["customer"]}
    sample = rng.sample(rows["application"], -(-len(rows["application"]) // 2))
    return [
        {
            "sex": sexes[row["customer_id"]],
            "age_group": _age_group(row["age"]),
            "repaid": row["repaid"],
            "predicted": int(judged_good(rng, row)),
        }
        for row in sample
    ]


def _age_group(age: int) -> str:
    groups = ((30, "18-29"), (45, "30-44"), (60, "45-59"))
    return next((name for below, name in groups if age < below), "60+")


def _contacts(rows: Rows) -> list[Row]:
    """Return what a careless export looks like: the first customers with how to reach them."""
    fields = ("name", "email", "phone", "city")
    return [{name: customer[name] for name in fields} for customer in rows["customer"][:300]]


def _clean(recipe: Recipe) -> list[Row]:
    """Return yearly totals, in which nobody can be found."""
    rng = recipe.stream("exports/clean")
    totals = [
        (product, channel, rng.randrange(200, 900)) for product in PRODUCTS for channel in CHANNELS
    ]
    return [
        {
            "product": product,
            "channel": channel,
            "applications": count,
            "approved": rng.randrange(count // 3, count),
            "mean_amount": rng.randrange(5_000, 20_000, 100),
        }
        for product, channel, count in totals
    ]


def _write_lake(folder: Path, recipe: Recipe) -> None:
    """Write one Parquet file a day in Hive layout; the day itself stands in the path only."""
    import pyarrow as pa
    from pyarrow import parquet

    at = pa.timestamp("ms", tz="UTC")
    fields = {"customer_id": pa.int64(), "event": pa.string(), "device_ip": pa.string(), "at": at}
    for day in LAKE_DAYS:
        part = folder / f"date={day.isoformat()}"
        part.mkdir(parents=True, exist_ok=True)
        events = pa.Table.from_pylist(_events(recipe, day), schema=pa.schema(fields.items()))
        parquet.write_table(events, part / "part-0.parquet")


def _events(recipe: Recipe, day: dt.date) -> list[Row]:
    """Return the events of a day in order of time; each device belongs to one customer."""
    rng = recipe.stream(f"events/{day.isoformat()}")
    midnight = dt.datetime.combine(day, dt.time(), dt.UTC)
    moments = sorted(rng.randrange(86_400_000) for _ in range(max(1, recipe.customers // 4)))
    return [
        {
            "customer_id": rng.randrange(1, recipe.customers + 1),
            "event": rng.choice(EVENTS),
            "device_ip": people.device_ip(rng),
            "at": midnight + dt.timedelta(milliseconds=moment),
        }
        for moment in moments
    ]
