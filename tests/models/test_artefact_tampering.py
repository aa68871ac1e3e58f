"""Whatever was changed in a sealed model is rejected before a byte of it is parsed."""

import io
import json
import os
import pickle
import shutil
import zipfile

import pytest
from models.vaults import SIGNER, Sealer, Signer, load, seal, verify

from compliance.errors import (
    InputError,
    KeyDestroyed,
    ModelRejected,
)
from compliance.models import artefact, formats

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
