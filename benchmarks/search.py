"""Searchable and format-preserving columns: CPU seconds beside the peers, in one run.

FF1 stands beside ff3 (FF3-1, by mysto) and pyffx (FFX, over HMAC-SHA-1), which do one value a
call; AES-SIV beside Tink's deterministic AEAD. ``--peers`` installs them, each into an
environment of its own. The peers' best of five is compared with ours.
"""

import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from _peers import LeftOutError, measure, run, venv

from compliance import frames
from compliance.crypto import blind, fpe, siv
from compliance.crypto.keys import Keyring
from compliance.crypto.tokens import Vault
from compliance.store import Store

ROWS = 100_000
DIGITS = 16
_VALUES = """
import json, random
from _peers import measure
generator = random.Random(7)
values = [f"{generator.randrange(10**16):016d}" for _ in range(int(__import__("sys").argv[1]))]
"""
_END = """
def both():
    return [decrypt(encrypt(value)) for value in values]
assert both() == values
one = measure(lambda: [encrypt(value) for value in values]).best
hidden = [encrypt(value) for value in values]
print(json.dumps({"encrypt": one, "decrypt": measure(lambda: [decrypt(h) for h in hidden]).best}))
"""
_FF3 = """
from ff3 import FF3Cipher
cipher = FF3Cipher("2DE79D232DF5585D68CE47882AE256D6" * 2, "CBD09280979564")
encrypt, decrypt = cipher.encrypt, cipher.decrypt
"""
_PYFFX = """
import pyffx
cipher = pyffx.String(b"0" * 32, alphabet="0123456789", length=16)
encrypt, decrypt = cipher.encrypt, cipher.decrypt
"""
_TINK = """
import tink
from tink import daead
daead.register()
handle = tink.new_keyset_handle(daead.deterministic_aead_key_templates.AES256_SIV)
primitive = handle.primitive(daead.DeterministicAead)
encrypt = lambda v: primitive.encrypt_deterministically(v.encode(), b"people")
decrypt = lambda c: primitive.decrypt_deterministically(c, b"people").decode()
"""
PEERS = {
    "ff3 1.0.3 (FF3-1)": (["ff3==1.0.3"], _FF3, 2_000, "FF1"),
    "pyffx 0.3.0 (FFX)": (["pyffx==0.3.0", "six"], _PYFFX, 1_000, "FF1"),
    "tink 1.16.1 (AES-SIV)": (["tink==1.16.1"], _TINK, 10_000, "AES-SIV"),
}


def line(name: str, seconds: float, rows: int, ratio: str = "") -> float:
    """Print values a second of CPU time; return them."""
    print(f"{name:<48} {rows / seconds:>12,.0f} /s {ratio}", flush=True)
    return rows / seconds


def timed(name: str, function: Callable[[], object], rows: int = ROWS) -> float:
    return line(name, measure(function).best, rows)


def ours(ring: Keyring) -> dict[str, float]:
    """Measure our own columns; return values a second for what has a peer."""
    generator = random.Random(7)
    cards = [f"{generator.randrange(10**DIGITS):0{DIGITS}d}" for _ in range(ROWS)]
    few = [f"value {generator.randrange(50)}" for _ in range(ROWS)]
    frame = frames.wrap(pa.table({"card": cards, "few": few}))
    place, found = {"table": "people"}, {}
    hidden = fpe.encrypt_column(frame, "card", ring, **place)
    rate = timed("FF1 column, encrypt", lambda: fpe.encrypt_column(frame, "card", ring, **place))
    found["FF1 encrypt"] = rate
    rate = timed("FF1 column, decrypt", lambda: fpe.decrypt_column(hidden, "card", ring, **place))
    found["FF1 decrypt"] = rate
    one = {"table": "people", "column": "card"}
    timed(
        "FF1, one value a call", lambda: [fpe.encrypt(c, ring, **one) for c in cards[:2_000]], 2_000
    )
    hidden = siv.encrypt_column(frame, "card", ring, space="s")
    rate = timed(
        "AES-SIV column, encrypt", lambda: siv.encrypt_column(frame, "card", ring, space="s")
    )
    found["AES-SIV encrypt"] = rate
    rate = timed(
        "AES-SIV column, decrypt", lambda: siv.decrypt_column(hidden, "card", ring, space="s")
    )
    found["AES-SIV decrypt"] = rate
    timed("AES-SIV column of 50 values", lambda: siv.encrypt_column(frame, "few", ring, space="s"))
    timed("blind index column", lambda: blind.index_column(frame, "card", ring, **place))
    timed(
        "blind index column of 50 values", lambda: blind.index_column(frame, "few", ring, **place)
    )
    vaults = (Vault(ring, f"cards {number}") for number in range(100))
    timed("tokens, first time", lambda: next(vaults).tokenise(cards[:10_000]), 10_000)
    vault = Vault(ring, "cards")
    tokens = vault.tokenise(cards[:10_000])
    timed("tokens, known values", lambda: vault.tokenise(cards[:10_000]), 10_000)
    timed("tokens, back to values", lambda: vault.detokenise(tokens), 10_000)
    return found


def peers(found: dict[str, float]) -> None:
    """Measure the peers, and say how many times faster ours is."""
    for name, (requirements, script, rows, mine) in PEERS.items():
        try:
            python = venv(name.split()[0], requirements)
            seconds = run(python, _VALUES + script + _END, str(rows))
        except LeftOutError as reason:
            print(f"{name:<48} left out: {reason}")
            continue
        for way in ("encrypt", "decrypt"):
            ratio = found[f"{mine} {way}"] / (rows / seconds[way])
            line(f"{name}, {way}", seconds[way], rows, f" ours {ratio:.1f}x")


def main() -> None:
    """Measure ours, then the peers."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(f"sqlite:///{folder}/bench.db")
        found = ours(Keyring.open(store, Path(folder) / "master.json"))
        store.close()
    peers(found)
    if "--json" in sys.argv[1:]:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
