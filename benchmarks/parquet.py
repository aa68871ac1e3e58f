"""CPU time of encrypted Parquet beside plain, in one run, on a table of mixed columns.

Run: ``python benchmarks/parquet.py [ROWS]``. Each step is the least of nine, the two kinds by
turns; both write zstd to the same folder, and both write through the same durable replacement.
"""

import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet as arrow

from compliance.crypto import parquet
from compliance.crypto.atomic import replacing
from compliance.crypto.keys import Keyring
from compliance.store import Store

REPEATS = 9


def people(rows):
    """Return customers: names and streets that repeat, e-mail addresses that do not, amounts."""
    rng = np.random.default_rng(0)
    names = np.array([f"Name{i:04}" for i in range(5000)])
    chosen = names[rng.integers(0, len(names), rows)]
    return pa.table(
        {
            "id": np.arange(rows),
            "name": chosen,
            "email": [f"{n.lower()}.{i}@example.org" for i, n in enumerate(chosen)],
            "street": [f"Street {n}" for n in rng.integers(0, 20_000, rows)],
            "note": [
                f"Order {a} delivered to gate {b}" for a, b in rng.integers(0, 10**6, (rows, 2))
            ],
            "age": rng.integers(18, 95, rows).astype("int16"),
            "income": np.round(rng.lognormal(10.5, 0.6, rows), 2),
            "score": rng.normal(size=rows),
            "repaid": rng.random(rows) < 0.8,
        }
    )


def plain_write(rows, path):
    with replacing(path) as file:
        sink = io.BufferedWriter(file)
        arrow.write_table(rows, sink, compression="zstd")
        sink.flush()
        sink.detach()


def measure(steps):
    """Return the least seconds of CPU, of all threads, of each step; the steps take turns."""
    taken = {name: [] for name in steps}
    for _ in range(REPEATS + 1):
        for name, step in steps.items():
            start = time.process_time()
            step()
            taken[name].append(time.process_time() - start)
    return {name: min(times[1:]) for name, times in taken.items()}


def main():
    rows = people(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ring = Keyring.open(Store.open(f"sqlite:///{folder / 'keys.db'}"), folder / "master.json")
        plain, sealed = folder / "plain", folder / "sealed"
        found = measure(
            {
                "write plain": lambda: plain_write(rows, plain),
                "write sealed": lambda: parquet.write(rows, sealed, ring, table="people"),
                "read plain": lambda: arrow.ParquetFile(plain).read(),
                "read sealed": lambda: parquet.read(sealed, ring, table="people"),
            }
        )
        sizes = plain.stat().st_size, sealed.stat().st_size
    print(
        f"{rows.num_rows:,} rows, {rows.num_columns} columns, {rows.nbytes / 1e6:.0f} MB in memory"
    )
    for what in ("write", "read"):
        one, other = found[f"{what} plain"], found[f"{what} sealed"]
        print(f"{what:5}: plain {one:.3f} s, sealed {other:.3f} s of CPU, ratio {other / one:.3f}")
    print(f"file : plain {sizes[0]:,} bytes, sealed {sizes[1]:,}, ratio {sizes[1] / sizes[0]:.4f}")


if __name__ == "__main__":
    main()
