"""Column types that seal: what SQLAlchemy sends and stores are sealed cells, never plaintext.

A type learns its column when SQLAlchemy attaches it, and binds tenant, table, column and
version. It sees no row: `EncryptedRow` is bound to the row by `compliance.crypto.orm_rows`,
which sees whole statements and whole instances.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import compress
from typing import Any, Literal
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from compliance.crypto import aead, values
from compliance.crypto.keys import Key, Keyring
from compliance.crypto.orm_cells import ERASED, PUBLIC, Cell, Home, Sealed, with_way_out
from compliance.crypto.orm_operators import NullsOnly
from compliance.errors import ConfigurationError, DecryptionFailed, InputError, KeyDestroyed

_LOGGED: WeakSet[object] = WeakSet()  # dialects, one for each engine, whose rows are logged
RING = "compliance.keys"  # where a MetaData's info holds the keyring, or what returns it
_KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        str, bytes, int, float, bool, Decimal, dt.date, dt.datetime, dt.time, uuid.UUID,
    )
}  # fmt: skip


def bind(metadata: Any, keys: Keyring | Callable[[], Keyring]) -> None:
    """Say which keys seal the encrypted columns of a MetaData's tables; call it once, at start.

    Args:
        metadata: a MetaData, or a declarative base such as `SQLModel` that has one.
        keys: the keyring, or a function that returns the keyring of the tenant of the moment.

    Raises:
        ConfigurationError: neither a MetaData nor a base, or neither keys nor a function.
    """
    target = getattr(metadata, "metadata", metadata)
    if not isinstance(target, sa.MetaData):
        raise ConfigurationError("bind takes a MetaData, such as SQLModel.metadata")
    if not isinstance(keys, Keyring) and not callable(keys):
        raise ConfigurationError("bind takes a keyring, such as guard.keys")
    target.info[RING] = keys


def _placed(prefix: bytes, row: str | None) -> bytes:
    return prefix if row is None else prefix + aead.part(row)


def watch_log(connection: sa.Connection) -> None:
    """Note whether the engine writes result rows to its log, as ``echo="debug"`` has it do."""
    logged = connection.engine._should_log_debug()  # noqa: SLF001  the public `echo` misses logging's levels
    if logged:
        _LOGGED.add(connection.dialect)
    elif _LOGGED:
        _LOGGED.discard(connection.dialect)


class Encrypted(TypeDecorator[Any]):
    """A column whose cells are sealed under the column's key (AES-256-GCM).

    Tenant, table, column and version are bound in: a cell that was moved to another one
    does not open. The row is not: somebody who can write to the database can exchange the
    cells of two rows unnoticed. `EncryptedRow` refuses that too.

    Visible remain NULL, the length of text and bytes, and when a cell was rewritten. Result
    rows hold values, so nothing is opened on an engine that logs them.
    A cell whose key was destroyed on purpose opens to `ERASED`, and is None on an instance.

    Args:
        python_type: the values' type or its name: str, bytes, int, float, bool, Decimal,
            date, datetime, time or UUID; exactly this type is accepted and returned.
        home: SQLAlchemy's, never yours: the column, once the type is attached to it.
        nulls: ``keep`` leaves NULL as it is, where everybody sees it; ``seal`` seals it.
        pad: pads each value to a multiple of so many bytes, to hide its length.
        version: of the schema, bound in.

    Raises:
        InputError: another type, or ``nulls="seal"`` without ``pad``.
    """

    impl = sa.LargeBinary
    # The cache key of a type is made of its positional arguments, by their attributes' names:
    # with `home` among them, types of two columns never share a compiled statement.
    cache_ok = True
    comparator_factory = NullsOnly

    def __init__(
        self,
        python_type: type | str,
        home: Home | None = None,
        *,
        nulls: Literal["keep", "seal"] = "keep",
        pad: int | None = None,
        version: str = "1",
    ) -> None:
        super().__init__()
        name = python_type if isinstance(python_type, str) else python_type.__name__
        if _KINDS.get(name) is None or python_type not in {name, _KINDS[name]}:
            raise InputError(f"cannot seal {name}; use one of {', '.join(_KINDS)}")
        if home is not None and not isinstance(home, Home):
            raise InputError("after the type all options are named, such as pad=64")
        if nulls not in {"keep", "seal"} or (nulls == "seal" and pad is None):
            raise InputError("nulls is 'keep', or 'seal' together with pad, which hides the length")
        if pad is not None:
            values.padded([b""], pad)
        self.kind: type = _KINDS[name]
        self.nulls = nulls
        self.pad = pad
        self.version = version
        self.home = home
        self.python_name = name
        self.should_evaluate_none = nulls == "seal"
        self._attached = False

    def __repr__(self) -> str:
        options = {"nulls": "keep", "pad": None, "version": "1"} | self._more()
        given = [f"{k}={getattr(self, k)!r}" for k, v in options.items() if getattr(self, k) != v]
        return f"{type(self).__name__}({', '.join([repr(self.python_name), *given])})"

    def _more(self) -> dict[str, object]:
        return {}

    @property
    def python_type(self) -> type:
        """The type of the values."""
        return self.kind

    # -- where it is -----------------------------------------------------------------

    def copy(self, **kw: Any) -> Encrypted:
        """Return a copy that still stands for this column until it is attached to its own."""
        twin: Encrypted = super().copy(**kw)
        twin._attached = False
        return twin

    def _set_parent(self, parent: Any, outer: bool = False, **kw: Any) -> None:  # noqa: FBT001, FBT002  SQLAlchemy's signature
        """Take the column that SQLAlchemy attaches; one type object never stands for two."""
        super()._set_parent(parent, outer=outer, **kw)
        if not isinstance(parent, sa.Column):
            return
        if self._attached and self.home is not None and self.home.column is not parent:
            parent.type = self.copy()
            parent.type._set_parent(parent, outer=outer, **kw)  # noqa: SLF001  as SQLAlchemy does
            return
        if parent.primary_key or parent.unique or parent.index:
            raise InputError(
                f"column {parent.name}: sealed cells are all different; a key or an index on "
                "them serves nothing. Index a blind index instead (compliance.crypto.blind)"
            )
        self.home, self._attached = Home(parent), True

    @property
    def title(self) -> str:
        """The name of the column with its table's, for messages."""
        column = self.home.column if self.home else None
        table = getattr(column, "table", None)
        if column is None or table is None:
            return "an encrypted value"
        return f"{table.fullname}.{column.name}"

    def where(self) -> tuple[Keyring, str, str]:
        """Return keyring, table and column.

        Raises:
            ConfigurationError: not attached to a table's column, or `bind` was not called.
        """
        table = getattr(self.home.column, "table", None) if self.home else None
        if self.home is None or not isinstance(table, sa.Table):
            raise ConfigurationError(
                f"{type(self).__name__} stands in no table's column here, so it cannot know what "
                "to bind; use it as the type of a column, and the column in the statement"
            )
        found = table.metadata.info.get(RING)
        if found is None:
            raise ConfigurationError(
                f"no keys for table {table.fullname}: call compliance.crypto.orm."
                "bind(SQLModel.metadata, guard.keys) once, at start (with your own MetaData)"
            )
        ring = found if isinstance(found, Keyring) else found()
        return ring, str(table.fullname), str(self.home.column.name)

    # -- sealing and opening ---------------------------------------------------------

    def _plain(self, value: object) -> bytes:
        if value is ERASED:
            raise InputError(f"{self.title}: what was erased cannot be sealed anew; set None first")
        if self.kind is float and type(value) is int:
            value = float(value)
        if value is not None and type(value) is not self.kind:
            raise InputError(
                f"{self.title} holds {self.python_name}, not {type(value).__name__}; convert it"
            )
        data = b"n" if value is None else values.encode(value)
        return data if self.pad is None else values.padded([data], self.pad)[0]

    def seal(self, value: object, row: str | None = None, subject: object = None) -> Cell:
        """Return the sealed cell of one value; see `seal_all`."""
        return self.seal_all([value], [row], [subject])[0]

    def seal_all(
        self, found: Sequence[object], rows: Sequence[str | None], subjects: Sequence[object]
    ) -> list[Cell]:
        """Return the cells of values, each for its row and subject; NULL stays where it is kept.

        Raises:
            InputError: not of the declared type.
            ConfigurationError: see `where`.
        """
        mask = [value is not None or self.nulls == "seal" for value in found]
        if not any(mask):
            return [Cell(self.home, None) for _ in mask]
        ring, table, column = self.where()
        plain = [self._plain(value) for value in compress(found, mask)]
        keys = self._keys(ring, table, column, list(compress(subjects, mask)))
        prefix = self._prefix(ring, table, column)
        cells = (
            aead.seal(key.cipher, key.id, data, _placed(prefix, row))
            for key, data, row in zip(keys, plain, compress(rows, mask), strict=True)
        )
        return [Cell(self.home, next(cells) if chosen else None) for chosen in mask]

    def _prefix(self, ring: Keyring, table: str, column: str) -> bytes:
        """Return the associated data without a row, encoded once for each tenant."""
        places = {} if self.home is None else self.home.places
        if ring.tenant not in places:
            places[ring.tenant] = aead.Place(ring.tenant, table, column, self.version).encode()
        return places[ring.tenant]

    def _keys(
        self, ring: Keyring, table: str, column: str, subjects: Sequence[object]
    ) -> list[Key]:
        return [ring.reserve(ring.column(table, column), len(subjects))] * len(subjects)

    def unseal(self, raw: object, row: str | None = None, subject: object = None) -> Any:
        """Return a cell's value, None for NULL, and `ERASED` where the key was destroyed.

        Raises:
            DecryptionFailed: no cell of this place, or altered.
        """
        if raw is None:
            return None
        ring, table, column = self.where()
        cell = self._bytes(raw)
        try:
            key = ring.by_id(aead.key_id_of(cell))
        except KeyDestroyed:
            return ERASED
        if not self._owns(ring, key, table, column, subject):
            raise DecryptionFailed(f"{self.title}: a cell was sealed for another column or person")
        place = _placed(self._prefix(ring, table, column), row)
        try:
            data = aead.open_sealed(key.cipher, cell, place)
        except DecryptionFailed as error:
            raise DecryptionFailed(f"{self.title}: {error}") from None
        return self._declared(values.decode_all([data])[0])

    def _bytes(self, raw: object) -> bytes:
        cell = bytes(raw) if isinstance(raw, (bytes, bytearray, memoryview)) else b""
        if len(cell) < aead.OVERHEAD or cell[0] != aead.VERSION:
            raise DecryptionFailed(
                f"{self.title} holds a value that is not sealed; if it is from before the column "
                "was encrypted, read it with its former type and write it through this one"
            )
        return cell

    def _owns(self, ring: Keyring, key: Key, table: str, column: str, subject: object) -> bool:
        del ring, subject
        return key.kind == "column" and key.name == f"{table}.{column}"

    def _declared(self, value: object) -> object:
        if value is not None and type(value) is not self.kind:
            raise DecryptionFailed(
                f"{self.title} was sealed as {type(value).__name__}, and is declared as "
                f"{self.python_name}; declare it as it was sealed, or migrate it"
            )
        return value

    # -- SQLAlchemy's hooks ------------------------------------------------------------

    def process_bind_param(self, value: Any, dialect: Any) -> bytes | None:
        """Return the sealed cell that the database gets."""
        del dialect
        if isinstance(value, Cell):
            if value.home is not self.home:
                raise InputError(
                    f"{self.title} was given a cell that was sealed for another column"
                )
            return value.raw
        return self._seal_alone(value)

    def _seal_alone(self, value: object) -> bytes | None:
        return self.seal(value).raw

    def literal_processor(self, dialect: Any) -> Callable[[Any], str]:
        """Render no value into the text of a statement, which can be printed and not executed."""
        del dialect
        return lambda _: f"<sealed {self.title}>"

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        """Return the value that a cell holds; never into a log of result rows."""
        if _LOGGED and dialect in _LOGGED:
            raise ConfigurationError(
                f'{self.title}: an engine with echo="debug", or SQLAlchemy\'s logger at DEBUG, '
                "writes opened values to the log; use echo=True, which logs sealed ones"
            )
        try:
            return self.unseal(value)
        except DecryptionFailed as error:
            raise with_way_out(error, self.title.rpartition(".")[0]) from None

    def result_processor(self, dialect: Any, coltype: Any) -> Callable[[Any], Any]:
        """Return what opens a cell; text from before the encryption comes as it is, to refuse."""
        del coltype
        return lambda value: self.process_result_value(value, dialect)


class EncryptedRow(Encrypted):
    """A column whose cells are bound to their row too: an exchange of two rows' cells is refused.

    The row is its primary key, which the client must make before the INSERT: `row_key` or a
    natural key, composite or not, but no key that the database counts. Values are sealed in a
    flush, in bulk methods of the session, in an INSERT and an UPDATE by primary key; any other
    way to write raises. An instance opens as it is loaded; ``select(Table.column)`` alone gives
    a `Sealed` cell, whose ``open`` takes the row.

    Args:
        python_type: as of `Encrypted`.
        home: as of `Encrypted`.
        subject: the kind of data subject, and the column of this table that names it: each
            cell is then sealed under that person's own key, and destroying it erases the
            person's cells here and in every backup; they open to `ERASED`.
        nulls: as of `Encrypted`; a NULL in place of a sealed one is refused.
        pad: as of `Encrypted`.
        version: as of `Encrypted`.
    """

    cache_ok = True

    def __init__(
        self,
        python_type: type | str,
        home: Home | None = None,
        *,
        subject: tuple[str, str] | None = None,
        nulls: Literal["keep", "seal"] = "keep",
        pad: int | None = None,
        version: str = "1",
    ) -> None:
        super().__init__(python_type, home, nulls=nulls, pad=pad, version=version)
        self.subject = subject

    def _more(self) -> dict[str, object]:
        return {"subject": None}

    def _keys(
        self, ring: Keyring, table: str, column: str, subjects: Sequence[object]
    ) -> list[Key]:
        if self.subject is None:
            return super()._keys(ring, table, column, subjects)
        if None in subjects:
            raise InputError(
                f"{self.title} is sealed under the key of the person in column "
                f"{self.subject[1]}; set it in the same statement"
            )
        return ring.subjects(self.subject[0], subjects)

    def _owns(self, ring: Keyring, key: Key, table: str, column: str, subject: object) -> bool:
        if self.subject is None:
            return super()._owns(ring, key, table, column, subject)
        known = subject is not None
        return key.kind == "subject" and (
            not known or key.name == ring.reference(self.subject[0], subject)
        )

    def _seal_alone(self, value: object) -> None:
        if value is None and self.nulls == "keep":
            return
        raise InputError(
            f"{self.title} is bound to its row, which this statement does not show; write through "
            "the session, by insert(T), or update(T).where(T.<primary key> == ...).values(...)"
        )

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        """Return the cell, to be opened with its row."""
        del dialect
        return None if value is None else Sealed(self, value)


for _public in (bind, Encrypted, EncryptedRow):
    _public.__module__ = PUBLIC
