"""What SQL may do with an encrypted column: ask whether it is NULL."""

from __future__ import annotations

from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression
from sqlalchemy.types import TypeDecorator

from compliance.errors import InputError

_NEVER = (
    "{column} is encrypted: {operator} in SQL never finds its value; keep a blind index "
    "(compliance.crypto.blind) in a column of its own and search that, or compare after loading"
)


class _Never(BinaryExpression[Any]):
    """Two columns compared, one of them sealed: SQLAlchemy does it to find columns in lists."""

    inherit_cache = True


@compiles(_Never)
def _refuse_comparison(element: _Never, compiler: object, **options: object) -> NoReturn:
    del compiler, options
    raise InputError(_NEVER.format(column=element.left, operator="an equality"))


class NullsOnly(TypeDecorator.Comparator[Any]):
    """Refuse every comparison in SQL but with NULL: equal values never have equal cells."""

    __slots__ = ()

    def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
        """Return a comparison with NULL; refuse any other operator."""
        same = op in {operators.eq, operators.ne}
        if len(other) == 1 and (same or op in {operators.is_, operators.is_not}):
            if other[0] is None or isinstance(other[0], sa.Null):
                return super().operate(op, *other, **kwargs)
            if same and isinstance(other[0], sa.ColumnClause):
                return _Never(self.expr, other[0], op)
        return self._refuse(op)

    def reverse_operate(self, op: Any, other: Any, **kwargs: Any) -> NoReturn:
        """Refuse the operators of plain values that stand on the left."""
        del other, kwargs
        self._refuse(op)

    def _refuse(self, op: Any) -> NoReturn:
        raise InputError(_NEVER.format(column=self.expr, operator=op.__name__.rstrip("_")))
