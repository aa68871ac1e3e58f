"""Sealed files beside other ways to encrypt one: CPU time and throughput, in one run.

In memory the source is a buffer and the target takes everything and keeps nothing, so that the
figure is that of encryption; the peers return their ciphertext, as their interfaces do. On disk
the time is CPU time of the whole copy, system calls and synchronisation included, and the wall
clock beside it. The goal is 2 GB/s a core both ways in memory.

    python benchmarks/files.py [--mebibytes 256] [--peers]
"""

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from _peers import LeftOutError, measure, run, venv
from cryptography.cobblestone import Cobblestone256Encryptor
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from compliance.crypto import files
from compliance.crypto.keys import Keyring
from compliance.store import Store

RUNS = 5
FERNET_BYTES = 2**25  # it holds several copies of the message
TINK = ("tink==1.15.0",)
TINK_SCRIPT = """
import io, json, os, sys
import tink
from tink import streaming_aead
from _peers import measure

class Nowhere(io.RawIOBase):
    def writable(self): return True
    def write(self, data): return len(data)

class Kept(io.BytesIO):
    def close(self): pass

size = int(sys.argv[1])
streaming_aead.register()
template = streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
primitive = tink.new_keyset_handle(template).primitive(streaming_aead.StreamingAead)
data = os.urandom(size)

def seal(target):
    with primitive.new_encrypting_stream(target, b"exports") as stream:
        for start in range(0, size, 2**20):
            stream.write(data[start : start + 2**20])

def open_():
    with primitive.new_decrypting_stream(io.BytesIO(kept.getvalue()), b"exports") as stream:
        while stream.read(2**20):
            continue

kept = Kept()
seal(kept)
times = {"seal": measure(lambda: seal(Nowhere()), 5), "open": measure(open_, 5)}
print(json.dumps({way: timing.median for way, timing in times.items()}))
"""


class Nowhere(io.RawIOBase):
    """A stream that takes everything and keeps nothing."""

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, data: memoryview) -> int:
        """Take it."""
        return len(data)


def in_memory(ring: Keyring, size: int) -> Iterator[tuple[str, float, int]]:
    """Yield a name, CPU seconds and bytes for each way that needs no disk."""
    data, sealed = os.urandom(size), io.BytesIO()
    files.seal(io.BytesIO(data), sealed, ring)
    message = sealed.getvalue()
    yield "ours: seal", cpu(lambda: files.seal(io.BytesIO(data), Nowhere(), ring)), size
    yield "ours: open", cpu(lambda: files.open_sealed(io.BytesIO(message), Nowhere(), ring)), size
    yield from one_shot(data)
    yield from fernet(data[:FERNET_BYTES])


def one_shot(data: bytes) -> Iterator[tuple[str, float, int]]:
    """Yield the library's own calls, which return the whole of a message at once."""
    key, gcm, nonce = os.urandom(32), AESGCM(os.urandom(32)), os.urandom(12)
    yield "Cobblestone-256, one update(): seal", cpu(lambda: encrypt(key, data)), len(data)
    yield "AES-256-GCM, one message: seal", cpu(lambda: gcm.encrypt(nonce, data, None)), len(data)
    sealed = gcm.encrypt(nonce, data, None)
    yield "AES-256-GCM, one message: open", cpu(lambda: gcm.decrypt(nonce, sealed, None)), len(data)


def encrypt(key: bytes, data: bytes) -> bytes:
    """Return a message without a buffer that is used again."""
    encryptor = Cobblestone256Encryptor(key, b"exports")
    return encryptor.update(data) + encryptor.finalize()


def fernet(data: bytes) -> Iterator[tuple[str, float, int]]:
    """Yield what most Python code encrypts files with."""
    cipher = Fernet(Fernet.generate_key())
    token = cipher.encrypt(data)
    yield "Fernet: seal", cpu(lambda: cipher.encrypt(data)), len(data)
    yield "Fernet: open", cpu(lambda: cipher.decrypt(token)), len(data)


def tink(size: int) -> Iterator[tuple[str, float, int]]:
    """Yield Google Tink's streaming encryption, where it may be installed."""
    try:
        found = run(venv("tink", TINK), TINK_SCRIPT, str(size))
    except LeftOutError as reason:
        print(f"left out: tink ({reason})")
        return
    for way, seconds in found.items():
        yield f"tink AES256_GCM_HKDF_1MB: {way}", seconds, size


def cpu(function: Callable[[], object]) -> float:
    """Return the median CPU seconds of a call."""
    return measure(function, RUNS).median


def on_disk(ring: Keyring, folder: Path, size: int) -> Iterator[tuple[str, float, float]]:
    """Yield a name, CPU seconds and wall-clock seconds for files in a folder."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        plain, sealed, opened = (Path(name) / part for part in ("plain", "sealed", "opened"))
        plain.write_bytes(os.urandom(size))
        yield "copy (read, write, fsync)", *both(lambda: copy(plain, opened))
        yield "ours: seal", *both(lambda: files.seal(plain, sealed, ring))
        yield "ours: open", *both(lambda: files.open_sealed(sealed, opened, ring))
        yield "ours: reader", *both(lambda: drain(sealed, ring))


def copy(source: Path, target: Path) -> None:
    """Copy a file as a program without encryption would, with a buffer used again."""
    buffer = memoryview(bytearray(2**18))
    with source.open("rb", 0) as file, target.open("wb", 0) as output:
        while count := file.readinto(buffer):
            output.write(buffer[:count])
        os.fsync(output.fileno())


def drain(path: Path, ring: Keyring) -> None:
    """Read a sealed file to its end."""
    buffer = bytearray(2**18)
    with files.reader(path, ring) as file:
        while file.readinto(buffer):
            continue


def both(function: Callable[[], object]) -> tuple[float, float]:
    """Return the median CPU and wall-clock seconds of a call, after one that warms the caches."""
    function()
    times = []
    for _ in range(RUNS):
        wall, used = time.perf_counter(), time.process_time()
        function()
        times.append((time.process_time() - used, time.perf_counter() - wall))
    return statistics.median(t[0] for t in times), statistics.median(t[1] for t in times)


def main() -> None:
    """Print a table in memory, and one for each disk."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--peers", action="store_true")
    size = parser.parse_args().mebibytes * 2**20
    with tempfile.TemporaryDirectory() as name:
        store = Store.open(f"sqlite:///{name}/keys.db")
        ring = Keyring.open(store, Path(name) / "master.json")
        show_memory(list(in_memory(ring, size)) + list(tink(size)))
        for folder in (Path(tempfile.gettempdir()), Path("/dev/shm")):
            if folder.is_dir():
                show_disk(folder, list(on_disk(ring, folder, size)), size)
        store.close()


def show_memory(rows: list[tuple[str, float, int]]) -> None:
    """Print CPU throughput, and how many times as fast ours is the same way."""
    speed = {name: size / seconds / 1e9 for name, seconds, size in rows}
    print(f"\n{'in memory':<36} {'GB/s of CPU':>11} {'ours is':>9}")
    for name, value in speed.items():
        ours = speed[f"ours: {name.rpartition(' ')[2]}"]
        print(f"{name:<36} {value:>11.2f} {ours / value:>8.1f}x")


def show_disk(folder: Path, rows: list[tuple[str, float, float]], size: int) -> None:
    """Print CPU time and throughput of files, beside a plain copy."""
    print(f"\n{f'files in {folder}':<36} {'CPU s':>8} {'GB/s of CPU':>12} {'GB/s':>7}")
    for name, used, wall in rows:
        print(f"{name:<36} {used:>8.3f} {size / used / 1e9:>12.2f} {size / wall / 1e9:>7.2f}")


if __name__ == "__main__":
    main()
