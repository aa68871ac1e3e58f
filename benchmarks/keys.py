"""Rotation and erasure among a million data subjects' keys, in CPU seconds.

Usage: python benchmarks/keys.py [SUBJECTS]
"""

import sys
import tempfile
import time
from pathlib import Path

from compliance.crypto.aead import Place
from compliance.crypto.custody import Custodian
from compliance.crypto.keys import Keyring
from compliance.errors import KeyDestroyed
from compliance.store import Store
from compliance.trail.entries import Event
from compliance.trail.log import Trail

SUBJECTS = 1_000_000


def event(what, **fields):
    return Event(event=what, actor="bench", method="os", account="bench", **fields)


def timed(label, work, unit=1.0, name="s"):
    """Print the CPU and wall time of one run; SQLite works in this process."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(f"{label:<48} {cpu * unit:9.2f} {name} CPU {wall * unit:9.2f} {name}", flush=True)
    return result


def main():
    subjects = int(sys.argv[1]) if len(sys.argv) > 1 else SUBJECTS
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(f"sqlite:///{Path(folder) / 'keys.db'}")
        ring = Keyring.open(store, Path(folder) / "master.json")
        keeper = Custodian(ring, Trail(store, ring.signer()), event)
        print(f"{subjects:,} subjects, one key each, on SQLite")
        timed("make the keys", lambda: ring.subjects("person", range(subjects)))
        place = Place(ring.tenant, "people", "notes", row="7")
        cell = ring.seal(ring.subject("person", subjects // 2), b"personal", place)
        data = Path(folder) / "keys.db"
        timed("rotate the domain key (asked: < 30 s CPU)", keeper.rotate_domain)
        before = data.stat().st_size
        timed("rotate the master (asked: < 1 s)", keeper.rotate_master)
        assert ring.open_sealed(cell, place) == b"personal"
        assert data.stat().st_size == before
        timed(
            "erase one person (asked: < 50 ms)",
            lambda: keeper.destroy_subject("person", subjects // 2),
            1_000,
            "ms",
        )
        try:
            ring.open_sealed(cell, place)
        except KeyDestroyed:
            print("what was sealed for that person no longer opens")
        store.close()


if __name__ == "__main__":
    main()
