"""Story 1, sealed models: what is written, and what is refused before a byte is parsed."""

import json
import shutil

import numpy as np
import pytest
from world import ACTIVITY, FEATURES, OFFICER, fit

from compliance.errors import AccessDenied, ComplianceError, InputError, ModelRejected
from compliance.models import formats
from compliance.trail.control import RecordOutcome


@pytest.fixture
def trained(world, guard, applicants):
    """Return the folder of the first sealed version."""
    guard.training(ACTIVITY)(fit)(applicants())
    return world.folder / ".compliance" / "models" / ACTIVITY / "000001"


@pytest.fixture
def parsed(monkeypatch):
    """Return what reaches a parser."""
    calls = []
    monkeypatch.setattr(formats, "parse", lambda *a, **k: calls.append(a))
    return calls


def test_a_sealed_model_comes_back_as_it_was(world, guard, applicants):
    model = guard.training(ACTIVITY)(fit)(applicants())
    loaded = guard.load(ACTIVITY)
    assert np.array_equal(
        loaded.predict(world.frame[FEATURES]), model.predict(world.frame[FEATURES])
    )


def test_the_file_shows_nothing_of_the_model(trained):
    sealed = (trained / "model.sealed").read_bytes()
    assert b"sklearn" not in sealed
    assert b"PK\x03\x04" not in sealed


def test_the_manifest_cites_data_policy_actor_and_intent(world, guard, trained):
    manifest = json.loads((trained / "manifest.json").read_text())
    origin = manifest["origin"]
    intent = next(e for i, e in enumerate(world.entries()) if i == origin["intent"])
    assert intent["event"] == "training.intent"
    assert origin["policy_digest"] == guard.policy.digest
    assert (origin["actor"], origin["activity"], len(origin["data_digest"])) == (
        "ada",
        ACTIVITY,
        64,
    )
    assert origin["rows"] == world.last("training.opened")["facts"]["rows_for_body"]
    assert origin["epsilon"] is None
    assert world.last("training.sealed")["facts"]["sha256"] == manifest["sha256"]


def test_other_data_give_another_digest(world, guard):
    for rows in (world.frame, world.frame.assign(debt=1)):
        guard.training(ACTIVITY)(fit)(guard.dataset("applicants")(lambda rows=rows: rows)())
    one, two = (guard.vault.verify(ACTIVITY, v).origin.data_digest for v in ("000001", "000002"))
    assert one != two


@pytest.mark.parametrize("file", ["model.sealed", "manifest.json", "manifest.sig"])
def test_one_changed_byte_is_refused_before_anything_is_parsed(guard, trained, parsed, file):
    path = trained / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelRejected):
        guard.load(ACTIVITY)
    with pytest.raises(ModelRejected):
        guard.load(ACTIVITY, version="000001")
    assert parsed == []


@pytest.mark.parametrize("file", ["model.sealed", "manifest.json", "manifest.sig"])
def test_a_missing_file_is_refused(guard, trained, parsed, file):
    (trained / file).unlink()
    with pytest.raises(ModelRejected):
        guard.load(ACTIVITY)
    assert parsed == []


def test_a_copy_under_another_version_or_name_is_refused(world, guard, trained, parsed):
    shutil.copytree(trained, trained.parent / "000002")
    with pytest.raises(ModelRejected):
        guard.load(ACTIVITY)
    shutil.copytree(trained, trained.parent.parent / "other" / "000001")
    with pytest.raises(ModelRejected):
        guard.vault.load("other")
    assert parsed == []


def test_a_model_sealed_in_another_project_is_refused(
    world, guard, trained, template, tmp_path, parsed
):
    home, _ = template
    shutil.copytree(home, tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / ".compliance")
    from compliance import Guard

    other = Guard(tmp_path / "other", identity="asserted:ada")
    shutil.copytree(trained.parent, tmp_path / "other" / ".compliance" / "models" / ACTIVITY)
    with pytest.raises(ModelRejected):
        other.load(ACTIVITY)
    assert parsed == []


def test_a_name_or_version_that_leads_elsewhere_is_refused(guard, trained):
    for name, version in ((f"../{ACTIVITY}", None), (ACTIVITY, "../000001"), (ACTIVITY, "")):
        with pytest.raises(ComplianceError):
            guard.vault.load(name, version=version)


def test_a_version_that_is_not_there_is_an_error_that_lists_those_there_are(guard, trained):
    with pytest.raises(InputError, match="000001"):
        guard.load(ACTIVITY, version="000009")
    with pytest.raises(InputError, match="there is no model"):
        guard.vault.load("unheard-of")


def test_loading_needs_a_role(world, trained, parsed):
    with pytest.raises(AccessDenied, match="'load' on 'model/credit-scoring'"):
        world.guard(OFFICER).load(ACTIVITY)
    assert parsed == []


def test_a_model_whose_run_never_recorded_its_end_was_not_released(
    world, guard, applicants, monkeypatch
):
    train, handle = guard.training(ACTIVITY)(fit), applicants()

    def killed(self, call):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(RecordOutcome, "__call__", killed)
        with pytest.raises(SystemExit):
            train(handle)
    assert world.models() == ["000001"]
    for version in (None, "000001"):
        with pytest.raises(
            ModelRejected, match="does not say that the run which sealed it ended well"
        ):
            guard.load(ACTIVITY, version=version)
    [(_, _, found)] = guard.vault.listing()
    assert isinstance(found, ModelRejected)
    train(handle)
    assert guard.fetch(ACTIVITY)[1].version == "000002"


@pytest.mark.parametrize("result", [None, 7, "model", object(), b"pickle", [1, 2]])
def test_what_cannot_be_sealed_is_not_released(world, result):
    guard = world.alter(remove=["fairness"]).guard()
    got = []
    with pytest.raises(InputError, match="cannot be sealed"):
        got.append(guard.training(ACTIVITY)(lambda run: result)())
    assert got == []
    assert world.models() == []


def test_rows_handed_back_as_a_model_are_not_released(world, guard):
    guard = world.alter(remove=["fairness"]).guard()
    handle = guard.dataset("applicants")(lambda: world.frame)()
    with pytest.raises(InputError, match="cannot be sealed"):
        guard.training(ACTIVITY)(lambda run, data: data)(handle)


def test_an_estimator_that_hides_code_is_not_sealed(world):
    from sklearn.preprocessing import FunctionTransformer

    guard = world.alter(remove=["fairness"]).guard()
    with pytest.raises(InputError):
        guard.training(ACTIVITY)(lambda run: FunctionTransformer(eval))()
    assert world.models() == []
