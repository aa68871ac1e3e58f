"""Sealed models: what was sealed comes back, whatever was changed is rejected unparsed.

Run as a script, this file seals models in a process of its own, to be killed or to race.
"""

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from compliance.errors import (
    DecryptionFailed,
    InputError,
    IntegrityError,
    KeyDestroyed,
    ModelRejected,
    StoreError,
)
from compliance.models import artefact, formats
from compliance.models.manifest import Origin

ROOT = Path(__file__).resolve().parents[2]
MODEL = {"weights": np.arange(4.0)}
ORIGIN = Origin(
    activity="credit-scoring",
    actor="ada",
    data_digest="d" * 64,
    policy_digest="e" * 64,
    epsilon=1.0,
    delta=1e-5,
    rows=31_909,
    intent=17,
)


class Sealer:
    """AES-256-GCM with the sorted context as associated data."""

    def __init__(self, key=b"k" * 32, key_id="7"):
        self._aead = AESGCM(key)
        self.key_id = key_id

    def seal(self, data, context):
        nonce = os.urandom(12)
        return nonce + self._aead.encrypt(nonce, data, self._bind(context))

    def open(self, data, context):
        try:
            return self._aead.decrypt(data[:12], data[12:], self._bind(context))
        except (InvalidTag, ValueError):
            raise DecryptionFailed("does not open") from None

    @staticmethod
    def _bind(context):
        return json.dumps(dict(context), sort_keys=True).encode()


class Signer:
    """Ed25519."""

    def __init__(self, seed=b"s" * 32):
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    def sign(self, data):
        return self._key.sign(data)

    def verify(self, signature, data):
        try:
            self._key.public_key().verify(signature, data)
        except InvalidSignature:
            raise IntegrityError("not signed by this key") from None


SEALER, SIGNER = Sealer(), Signer()


def seal(folder, name="scorer", model=MODEL, **options):
    keys = {"origin": ORIGIN, "sealer": SEALER, "signer": SIGNER}
    return artefact.seal(folder, name, model, **keys | options)


def load(folder, name="scorer", version=None, **options):
    keys = {"verifier": SIGNER, "sealer": SEALER}
    return artefact.load(folder, name, version, **keys | options)


def verify(folder, name="scorer", version=None, **options):
    return artefact.verify(folder, name, version, **{"verifier": SIGNER} | options)


@pytest.fixture(autouse=True)
def parsed(monkeypatch):
    """Record what reaches the parser."""
    seen = []
    parse = formats.parse

    def recording(name, data, **options):
        seen.append(data)
        return parse(name, data, **options)

    monkeypatch.setattr(formats, "parse", recording)
    return seen


# -- there and back ---------------------------------------------------------------------


def test_a_dictionary_comes_back_with_its_manifest(tmp_path):
    sealed = seal(tmp_path)
    model, manifest = load(tmp_path)
    np.testing.assert_array_equal(model["weights"], MODEL["weights"])
    assert manifest == sealed
    assert manifest.origin == ORIGIN
    assert (manifest.name, manifest.version, manifest.format) == ("scorer", "000001", "arrays")
    assert (manifest.key_id, manifest.created[-1]) == ("7", "Z")


def test_a_torch_module_comes_back(tmp_path):
    import torch

    model = torch.nn.Linear(3, 1)
    seal(tmp_path, model=model)
    again, _ = load(tmp_path, into=torch.nn.Linear(3, 1))
    assert torch.equal(again.weight, model.weight)


def test_a_scikit_learn_pipeline_comes_back(tmp_path):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    rows, labels = [["a"], ["b"], ["a"], ["c"]], [0, 1, 0, 1]
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(rows, labels)
    seal(tmp_path, model=model)
    again, _ = load(tmp_path)
    np.testing.assert_array_equal(again.predict_proba(rows), model.predict_proba(rows))


def test_trusted_types_are_handed_through(tmp_path):
    from sklearn.tree import DecisionTreeClassifier

    trusted = ["sklearn.tree._tree.Tree"]
    seal(tmp_path, model=DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1]), trusted=trusted)
    with pytest.raises(ModelRejected, match="trusted="):
        load(tmp_path)
    assert load(tmp_path, trusted=trusted)[0].predict([[1.0]]) == [1]


def test_the_newest_version_is_loaded_unless_one_is_named(tmp_path):
    for number in range(3):
        seal(tmp_path, model={"n": np.array([number])})
    assert load(tmp_path)[0]["n"] == [2]
    assert load(tmp_path, version="000002")[0]["n"] == [1]
    assert verify(tmp_path).version == "000003"


def test_the_files_hold_no_byte_of_the_model_in_clear(tmp_path):
    seal(tmp_path, model={"weights": np.frombuffer(b"personal" * 4, dtype=np.uint8)})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["manifest.json", "manifest.sig", "model.sealed"]
    assert not any(b"personal" in path.read_bytes() for path in files)


def test_equal_models_have_different_digests(tmp_path):
    assert seal(tmp_path).sha256 != seal(tmp_path).sha256


def test_verification_needs_no_decryption_key(tmp_path):
    sealed = seal(tmp_path)
    assert artefact.verify(tmp_path, "scorer", verifier=SIGNER) == sealed


def test_the_listing_names_every_version_in_order(tmp_path):
    for name in ("b", "a", "b"):
        seal(tmp_path, name)
    (tmp_path / "b" / ".000009.part").mkdir()
    (tmp_path / "b" / "notes").mkdir()
    (tmp_path / "readme").write_text("no folder")
    (tmp_path / ".hidden").mkdir()
    listed = [(entry.name, entry.version) for entry in artefact.listing(tmp_path)]
    assert listed == [("a", "000001"), ("b", "000001"), ("b", "000002")]


def test_the_listing_of_no_folder_is_empty(tmp_path):
    assert artefact.listing(tmp_path / "none") == []


# -- tampering --------------------------------------------------------------------------


def flip(path, index):
    data = bytearray(path.read_bytes())
    data[index] ^= 1
    path.write_bytes(data)


def resign(home, **changes):
    """Change the manifest as somebody with the signing key could."""
    values = json.loads((home / artefact.MANIFEST).read_bytes()) | changes
    data = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    (home / artefact.MANIFEST).write_bytes(data)
    (home / artefact.SIGNATURE).write_bytes(SIGNER.sign(artefact._PREFIX + data))


def rejected(folder, parsed, name="scorer", version=None, match=None, **options):
    with pytest.raises(ModelRejected, match=match):
        load(folder, name, version, **options)
    assert parsed == []


@pytest.fixture
def home(tmp_path):
    seal(tmp_path)
    return tmp_path / "scorer" / "000001"


@pytest.mark.parametrize("name", [artefact.SEALED, artefact.MANIFEST, artefact.SIGNATURE])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.99])
def test_a_flipped_bit_anywhere_is_rejected(tmp_path, home, parsed, name, place):
    path = home / name
    flip(path, int(place * path.stat().st_size))
    rejected(tmp_path, parsed)
    with pytest.raises(ModelRejected):
        verify(tmp_path)


@pytest.mark.parametrize("name", [artefact.SEALED, artefact.MANIFEST, artefact.SIGNATURE])
@pytest.mark.parametrize("keep", [0, 1, -1])
def test_a_truncated_file_is_rejected(tmp_path, home, parsed, name, keep):
    path = home / name
    path.write_bytes(path.read_bytes()[:keep])
    rejected(tmp_path, parsed)


@pytest.mark.parametrize("name", [artefact.SEALED, artefact.MANIFEST, artefact.SIGNATURE])
def test_a_longer_file_is_rejected(tmp_path, home, parsed, name):
    with (home / name).open("ab") as file:
        file.write(b"\0")
    rejected(tmp_path, parsed)


@pytest.mark.parametrize("name", [artefact.SEALED, artefact.MANIFEST, artefact.SIGNATURE])
def test_a_missing_file_is_rejected(tmp_path, home, parsed, name):
    (home / name).unlink()
    rejected(tmp_path, parsed, match="cannot be read")


@pytest.mark.parametrize("name", [artefact.SEALED, artefact.MANIFEST, artefact.SIGNATURE])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(__file__)])
def test_a_pipe_folder_or_link_in_place_of_a_file_is_rejected(tmp_path, home, parsed, name, make):
    (home / name).unlink()
    make(home / name)
    rejected(tmp_path, parsed)


def test_swapped_versions_are_rejected(tmp_path, home, parsed):
    seal(tmp_path)
    other = home.with_name("000002")
    home.rename(home.with_name("swap"))
    other.rename(home)
    home.with_name("swap").rename(other)
    for version in ("000001", "000002"):
        rejected(tmp_path, parsed, version=version, match="the manifest is of")


def test_an_older_version_renamed_to_be_the_newest_is_rejected(tmp_path, home, parsed):
    home.rename(home.with_name("000009"))
    rejected(tmp_path, parsed, match="the manifest is of scorer 000001")


def test_swapped_names_are_rejected(tmp_path, home, parsed):
    shutil.copytree(tmp_path / "scorer", tmp_path / "other")
    rejected(tmp_path, parsed, "other", match="the manifest is of scorer")


@pytest.mark.parametrize("name", [artefact.SEALED, artefact.MANIFEST, artefact.SIGNATURE])
def test_a_file_of_another_version_is_rejected(tmp_path, home, parsed, name):
    seal(tmp_path)
    shutil.copy(home / name, home.with_name("000002") / name)
    rejected(tmp_path, parsed)


@pytest.mark.parametrize("change", [{"name": "other"}, {"version": "000002"}, {"format": "skops"}])
def test_a_ciphertext_is_bound_to_name_version_and_format(tmp_path, home, parsed, change):
    """Even where the manifest is signed again and the folder renamed to match."""
    resign(home, **change)
    target = tmp_path / change.get("name", "scorer") / change.get("version", "000001")
    target.parent.mkdir(exist_ok=True)
    home.rename(target)
    rejected(tmp_path, parsed, target.parent.name, match="does not decrypt")


@pytest.mark.parametrize("change", [{"schema": 2}, {"size": 1}, {"sha256": "0" * 64}, {"extra": 1}])
def test_a_signed_manifest_that_does_not_fit_is_rejected(tmp_path, home, parsed, change):
    resign(home, **change)
    rejected(tmp_path, parsed)


def test_another_signing_key_is_rejected(tmp_path, home, parsed):
    rejected(tmp_path, parsed, verifier=Signer(b"t" * 32), match="not signed")


def test_a_signature_over_the_bare_manifest_is_rejected(tmp_path, home, parsed):
    """The key signs other things too: its signatures count for manifests alone."""
    signature = SIGNER.sign((home / artefact.MANIFEST).read_bytes())
    (home / artefact.SIGNATURE).write_bytes(signature)
    rejected(tmp_path, parsed, match="not signed")


def test_another_sealing_key_is_rejected(tmp_path, home, parsed):
    rejected(tmp_path, parsed, sealer=Sealer(b"l" * 32), match="does not decrypt")


def test_a_destroyed_key_is_told_apart_from_tampering(tmp_path, home, parsed):
    class Destroyed(Sealer):
        def open(self, data, context):
            raise KeyDestroyed("key 7 was destroyed")

    with pytest.raises(KeyDestroyed):
        load(tmp_path, sealer=Destroyed())
    assert parsed == []


def test_a_huge_manifest_or_signature_is_not_read(tmp_path, home, parsed):
    for name in (artefact.MANIFEST, artefact.SIGNATURE):
        with (home / name).open("r+b") as file:
            file.truncate(10**12)  # sparse: reading it whole would take a terabyte
        rejected(tmp_path, parsed, match="larger")
        (home / name).write_bytes(b"")


@pytest.mark.parametrize(
    "name",
    ["../scorer", "..", ".", "", "/etc", "a/b", "a\\b", "Scorer", "scorer\n", "scorer\0", "-a", "é",
     "a" * 101],
)  # fmt: skip
def test_a_name_that_could_lead_elsewhere_is_refused_before_anything_is_read(
    tmp_path, home, parsed, name
):
    rejected(tmp_path, parsed, name, match="nothing was read")
    with pytest.raises(ModelRejected):
        verify(tmp_path / "x", name)
    with pytest.raises(InputError, match="no model name"):
        seal(tmp_path, name)


@pytest.mark.parametrize(
    "version", ["1", "../000001", "000001/", "", ".", "0000001", "00000a", "000001\n", "\u0660" * 6]
)
def test_a_version_that_is_not_six_digits_is_refused(tmp_path, home, parsed, version):
    rejected(tmp_path, parsed, version=version, match="nothing was read")


def hostile_files():
    archive = io.BytesIO()
    schema = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}
    schema |= {"content": "os.system", "protocol": 2, "__id__": 1}
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("schema.json", json.dumps(schema))
    return {"skops": archive.getvalue(), "arrays": pickle.dumps({"a": 1}), "torch": b"\x80\x04."}


@pytest.mark.parametrize("kind", ["skops", "arrays", "torch"])
def test_hostile_bytes_that_were_sealed_and_signed_are_rejected_still(tmp_path, monkeypatch, kind):
    """Whoever holds every key can make the reader refuse, not make it run code."""
    monkeypatch.setattr(formats, "serialise", lambda *_, **__: (kind, hostile_files()[kind]))
    seal(tmp_path)
    with pytest.raises(ModelRejected, match=r"os\.system|format"):
        load(tmp_path)


# -- bad input ----------------------------------------------------------------------------


def test_a_model_or_version_that_is_not_there_is_named(tmp_path, home):
    with pytest.raises(InputError, match="no model 'none'"):
        load(tmp_path, "none")
    with pytest.raises(InputError, match="no version 000002; there are: 000001"):
        load(tmp_path, version="000002")


def test_what_cannot_be_sealed_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputError, match="cannot be sealed"):
        seal(tmp_path / "models", model=object())
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    "error", [InputError("too large"), KeyDestroyed("gone"), KeyboardInterrupt()]
)
def test_a_sealer_or_signer_that_fails_leaves_nothing_behind(tmp_path, error):
    class Failing(Sealer, Signer):
        def __init__(self):
            pass

        key_id = "7"

        def fail(self, *_):
            raise error

        seal = sign = fail

    for options in ({"sealer": Failing()}, {"signer": Failing()}):
        with pytest.raises(type(error)):
            seal(tmp_path, **options)
        assert list((tmp_path / "scorer").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "models").write_text("a file")
    with pytest.raises(StoreError, match="cannot be written to"):
        seal(tmp_path / "models")


def test_the_last_version_number_is_not_run_over(tmp_path):
    (tmp_path / "scorer" / "999999").mkdir(parents=True)
    with pytest.raises(StoreError, match="no version number left"):
        seal(tmp_path)


def test_a_version_that_is_there_is_never_written_over(tmp_path, home, monkeypatch):
    """Even if the choice of the number were broken: the rename fails."""
    before = verify(tmp_path)
    part = home.with_name(".000001.part")
    monkeypatch.setattr(artefact, "_reserve", lambda _: part.mkdir() or part)
    with pytest.raises(StoreError):
        seal(tmp_path)
    assert verify(tmp_path) == before
    assert not part.exists()


# -- crashes and races ---------------------------------------------------------------------


def run_script(*arguments, **options):
    """Run this file as a script; see its end."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, **options)


STEPS = [
    *("mkdir", "write 1", "fsync 1", "write 2", "fsync 2", "write 3", "fsync 3", "fsync 4"),
    "rename",
]


@pytest.mark.parametrize("step", STEPS)
def test_a_process_killed_at_any_step_leaves_no_half_version(tmp_path, step):
    first = seal(tmp_path)
    child = run_script("killed", tmp_path, step)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    listed = [entry.version for entry in artefact.listing(tmp_path)]
    assert listed == ["000001", "000002"] if step == "rename" else listed == ["000001"]
    assert all(verify(tmp_path, version=version) for version in listed)
    assert load(tmp_path, version="000001")[1] == first
    later = seal(tmp_path)
    assert later.version == "000003"
    assert load(tmp_path)[1] == later


def test_two_processes_that_seal_twenty_versions_each_make_forty(tmp_path):
    children = [run_script("twenty", tmp_path, number) for number in (1, 2)]
    for child in children:
        _, complaint = child.communicate(timeout=120)
        assert child.returncode == 0, complaint.decode()
    listed = artefact.listing(tmp_path)
    assert [entry.version for entry in listed] == [f"{n:06d}" for n in range(1, 41)]
    makers = [load(tmp_path, version=entry.version)[1].origin.intent for entry in listed]
    assert sorted(makers) == [1] * 20 + [2] * 20
    assert not list((tmp_path / "scorer").glob(".*"))


def test_a_race_between_choosing_and_taking_a_number_is_noticed(tmp_path, monkeypatch):
    """Another process publishes the number after we chose it and before we took it."""
    choose = artefact._next
    rivals = iter([True, False, False])

    def beaten(home):
        number = choose(home)
        if next(rivals):
            seal(tmp_path)
        return number

    monkeypatch.setattr(artefact, "_next", beaten)
    assert seal(tmp_path).version == "000002"
    assert [entry.version for entry in artefact.listing(tmp_path)] == ["000001", "000002"]


# -- the processes of the tests above --------------------------------------------------------


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(step):
    """Make the process kill itself right after a step of sealing."""
    counts = {"write": 0, "fsync": 0}

    def after(name, function):
        def wrapped(*arguments, **options):
            result = function(*arguments, **options)
            counts[name] = counts.get(name, 0) + 1
            if step in {name, f"{name} {counts[name]}"}:
                die()
            return result

        return wrapped

    fsync, write = os.fsync, io.BufferedWriter.write
    Path.mkdir = after("mkdir", Path.mkdir)
    Path.rename = after("rename", Path.rename)
    os.fsync = after("fsync", fsync)

    opened = Path.open

    def tearing(path, mode="r", *rest, **options):
        file = opened(path, mode, *rest, **options)
        if mode == "xb":
            counts["write"] += 1
            if step == f"write {counts['write']}":
                write(file, b"half")
                file.flush()
                die()
        return file

    Path.open = tearing


def main(task, folder, argument):
    folder = Path(folder)
    if task == "killed":
        killed_at(argument)
        seal(folder)
    for _ in range(20 if task == "twenty" else 0):
        values = {name: getattr(ORIGIN, name) for name in Origin.__slots__}
        seal(folder, origin=Origin(**values | {"intent": int(argument)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
