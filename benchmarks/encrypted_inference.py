"""CPU time of encrypted scoring: a batch of 2,048 rows beside one row.

Run: ``python benchmarks/encrypted_inference.py``. Prints one line for each step, the ratio,
and the largest error of a score.
"""

import statistics
import time

import numpy as np

from compliance.encrypted.inference import Client, Server
from compliance.encrypted.linear import LinearModel

FEATURES, REPEATS = 13, 5


def timed(function, *arguments):
    start = time.process_time()
    result = function(*arguments)
    return time.process_time() - start, result


def once(client, server, rows):
    """Return seconds of CPU for encrypting, scoring and decrypting, the scores, and the bytes."""
    encrypt, query = timed(client.encrypt, rows)
    score, answer = timed(server.score, query)
    decrypt, scores = timed(client.scores, answer)
    return (encrypt, score, decrypt), scores, len(query)


def measure(client, server, model, rows):
    runs = [once(client, server, rows) for _ in range(REPEATS)]
    steps = [statistics.median(column) for column in zip(*(run[0] for run in runs), strict=True)]
    error = np.abs(runs[0][1] - (rows @ model.weights + model.intercept)).max()
    return steps, error, runs[0][2]


def main():
    rng = np.random.default_rng(0)
    model = LinearModel.of((rng.normal(size=FEATURES), 0.5))
    client = Client(FEATURES)
    server = Server(model, client.public_context())
    print(f"{FEATURES} features; milliseconds of CPU, median of {REPEATS}")
    print("  rows   encrypt  score  decrypt  total   MiB sent  largest error")
    totals = {}
    for count in (1, 2048, 4096, 8192):
        steps, error, size = measure(client, server, model, rng.normal(size=(count, FEATURES)))
        totals[count] = sum(steps)
        figures = " ".join(f"{1000 * step:7.1f}" for step in (*steps, totals[count]))
        print(f"{count:6d} {figures}  {size / 2**20:8.2f}  {error:.1e}")
    print(f"2,048 rows cost {totals[2048] / totals[1]:.2f} times one row")


if __name__ == "__main__":
    main()
