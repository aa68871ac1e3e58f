"""A user's mapped class or table, found by the name that they give on the command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from compliance.errors import InputError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from compliance.crypto.keys import Keyring


def bound_table(name: str, ring: Keyring, root: Path) -> sa.Table:
    """Return the table of ``MODULE:NAME``, its MetaData bound to the project's keys.

    The module is imported, with the project's folder on the path: it is the user's own code.

    Raises:
        InputError: no such module or name, or no table.
    """
    import sqlalchemy as sa

    from compliance.crypto.orm import bind

    found = getattr(_module(name, root), name.partition(":")[2], None)
    table = getattr(found, "__table__", found)
    if not isinstance(table, sa.Table):
        raise InputError(f"{name}: names no mapped class or Table; write package.module:Customer")
    bind(table.metadata, ring)
    return table


def _module(name: str, root: Path) -> object:
    module = name.partition(":")[0]
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        return importlib.import_module(module)
    except (ImportError, TypeError, ValueError) as error:
        lacking = getattr(error, "name", None) or module
        raise InputError(
            f"{module!r} cannot be imported from {root}: {type(error).__name__} of {lacking!r}; "
            "write MODULE:NAME, such as shop.models:Customer"
        ) from error
