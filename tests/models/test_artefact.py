"""Sealed models: what was sealed comes back, whatever was changed is rejected unparsed.

Run as a script, this file seals models in a process of its own, to be killed or to race.
"""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from models.vaults import MODEL, ORIGIN, ROOT, SIGNER, Sealer, Signer, load, seal, verify

from compliance.errors import (
    InputError,
    KeyDestroyed,
    ModelRejected,
    StoreError,
)
from compliance.models import artefact
from compliance.models.manifest import Origin

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
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
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
