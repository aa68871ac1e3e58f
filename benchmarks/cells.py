"""Sealed cells a second of CPU: our frames beside raw AES-GCM and the packages in common use.

Run: ``python benchmarks/cells.py [CELLS] [--peers]``. Everybody seals and opens the same cells of
50 bytes of text in one run, one core each; CPU time, best of five. Ours bind tenant, table,
column (and row), return a frame, and remember no value between calls. sqlalchemy-utils is driven
through ``process_bind_param`` and ``process_result_value``, as SQLAlchemy does. Without ``--peers``
nothing is installed and the missing peers are listed.
"""

import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from _peers import LeftOutError, measure, run, venv
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from compliance import frames
from compliance.crypto import columns
from compliance.crypto.keys import Keyring
from compliance.store import Store

CELLS = 50_000
PER_SUBJECT = 20  # rows of one person
REPEATS = 5
BASE = "raw AES-256-GCM"
Rate = tuple[float, float]

SQLALCHEMY = """
import json, sys
from _peers import measure
from sqlalchemy import Unicode
from sqlalchemy_utils import StringEncryptedType
from sqlalchemy_utils.types.encrypted.encrypted_type import AesEngine, AesGcmEngine, FernetEngine
cells = open(sys.argv[1], encoding="utf-8").read().split("\\n")
found = {}
for engine in (AesEngine, AesGcmEngine, FernetEngine):
    column = StringEncryptedType(Unicode, "a passphrase of the application", engine)
    seal = lambda: [column.process_bind_param(cell, None) for cell in cells]
    sealed = seal()
    opened = lambda: [column.process_result_value(cell, None) for cell in sealed]
    assert opened() == cells
    found[engine.__name__] = [len(cells) / measure(f, 3).best for f in (seal, opened)]
print(json.dumps(found))
"""
TINK = """
import json, sys
import tink
from tink import aead
from _peers import measure
aead.register()
cells = open(sys.argv[1], encoding="utf-8").read().split("\\n")
handle = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM)
cipher = handle.primitive(aead.Aead)
place = b"acme people note"
seal = lambda: [cipher.encrypt(cell.encode(), place) for cell in cells]
sealed = seal()
opened = lambda: [cipher.decrypt(cell, place).decode() for cell in sealed]
assert opened() == cells
print(json.dumps({"AES256_GCM": [len(cells) / measure(f, 3).best for f in (seal, opened)]}))
"""
PEERS = {
    "sqlalchemy-utils": (
        SQLALCHEMY,
        ["sqlalchemy-utils==0.43.0", "sqlalchemy==2.0.44", "cryptography==50.0.2"],
    ),
    "tink": (TINK, ["tink==1.16.1"]),
}


def rate(cells: int, seal: Callable[[], object], opened: Callable[[], object]) -> Rate:
    """Return cells a second for sealing and for opening."""
    return cells / measure(seal, REPEATS).best, cells / measure(opened, REPEATS).best


def raw(cells: list[str]) -> Rate:
    """Return the floor: a nonce for each cell, one associated data, lists in and out."""
    cipher, place = AESGCM(os.urandom(32)), b"acme people note"
    nonces = [os.urandom(12) for _ in cells]
    plain = [cell.encode() for cell in cells]
    sealed = [cipher.encrypt(n, p, place) for n, p in zip(nonces, plain, strict=True)]
    return rate(
        len(cells),
        lambda: [cipher.encrypt(n, p, place) for n, p in zip(nonces, plain, strict=True)],
        lambda: [cipher.decrypt(n, c, place) for n, c in zip(nonces, sealed, strict=True)],
    )


def fernet(cells: list[str]) -> Rate:
    cipher = Fernet(Fernet.generate_key())
    sealed = [cipher.encrypt(cell.encode()) for cell in cells]
    return rate(
        len(cells),
        lambda: [cipher.encrypt(cell.encode()) for cell in cells],
        lambda: [cipher.decrypt(cell).decode() for cell in sealed],
    )


def ours(cells: list[str], ring: Keyring) -> Iterator[tuple[str, Rate]]:
    """Yield our rates by frame library and by what is bound in."""
    rows = list(range(len(cells)))
    people = ("person", [row // PER_SUBJECT for row in rows])
    modes = {"column": {}, "row": {"rows": rows}, "subject": {"rows": rows, "subjects": people}}
    for library in ("pandas", "polars", "pyarrow"):
        frame = frames.wrap(frames.from_columns({"note": cells}, backend=library))
        for mode, options in modes.items():
            seal = partial(columns.encrypt, frame, ["note"], ring, table="people", **options)
            sealed = seal()
            opened = partial(columns.decrypt, sealed, ["note"], ring, table="people", **options)
            if frames.column(opened(), "note") != cells:
                raise AssertionError("a cell did not come back")
            yield f"compliance {library}, {mode}-bound", rate(len(cells), seal, opened)


def peers(cells: list[str], folder: Path) -> Iterator[tuple[str, Rate]]:
    """Yield the rates of the peers that are installed; name the others."""
    path = folder / "cells.txt"
    path.write_text("\n".join(cells), "utf-8")
    for name, (script, requirements) in PEERS.items():
        try:
            for engine, (sealing, opening) in run(
                venv(name, requirements), script, str(path)
            ).items():
                yield f"{name} {engine}", (sealing, opening)
        except LeftOutError as reason:
            print(f"left out: {name}: {reason}", file=sys.stderr)


def text(generator: random.Random) -> str:
    return "".join(generator.choices("abcdefghijklmnopqrstuvwxyz ", k=50))


def main() -> None:
    """Print one line for each contender, with its ratio to the raw cipher."""
    numbers = [int(a) for a in sys.argv[1:] if a.isdigit()]
    generator = random.Random(0)
    cells = [text(generator) for _ in range(numbers[0] if numbers else CELLS)]
    with tempfile.TemporaryDirectory() as name:
        store = Store.open(f"sqlite:///{name}/keys.db")
        ring = Keyring.open(store, Path(name) / "keys" / "master.json")
        found = {BASE: raw(cells), **dict(ours(cells, ring)), "Fernet": fernet(cells)}
        found |= dict(peers(cells, Path(name)))
        store.close()
    report(found, len(cells))


def report(found: dict[str, Rate], count: int) -> None:
    print(f"{count:,} cells of 50 bytes; thousand cells a second of CPU, best of {REPEATS}")
    print(f"{'':<34} {'seal':>7} {'open':>7}   {'of the raw cipher':>17}")
    for name, (seal, opened) in found.items():
        shares = f"{seal / found[BASE][0]:>7.1%} {opened / found[BASE][1]:>7.1%}"
        print(f"{name:<34} {seal / 1000:>7.0f} {opened / 1000:>7.0f}   {shares:>17}")
    theirs = {k: v for k, v in found.items() if not k.startswith(("compliance", BASE))}
    for best in ("compliance polars, column-bound", "compliance polars, row-bound"):
        for name, (seal, opened) in theirs.items():
            print(f"{best}: {found[best][0] / seal:.1f} and {found[best][1] / opened:.1f} x {name}")


if __name__ == "__main__":
    main()
