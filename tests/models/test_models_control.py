"""A sealed model is released by the word of the trail, and by nothing else."""

import shutil

import numpy as np
import pytest
from world import ACTIVITY, guard, strict, template, world

from compliance.errors import InputError, ModelRejected
from compliance.models.manifest import Origin

__all__ = ["guard", "strict", "template", "world"]

MODEL = {"weights": np.arange(3.0)}


@pytest.fixture
def seal(guard):
    """Return a function that seals a model in a run that ends, or does not, as it is told."""

    def run(outcome="ok", *, activity=ACTIVITY, call="one", sealed=True, ended_by="one"):
        intent = guard.trail.append(event("training.intent", activity, call))
        origin = Origin(
            activity=activity, actor="ada", data_digest="", policy_digest="", rows=0, intent=intent
        )
        manifest = guard.vault.seal(ACTIVITY, MODEL, origin)
        if sealed:
            facts = {"version": manifest.version, "sha256": manifest.sha256}
            guard.trail.append(event("training.sealed", activity, call, facts=facts))
        if outcome:
            guard.trail.append(event("training.outcome", activity, ended_by, outcome=outcome))
        return manifest.version

    def event(name, activity, call, **fields):
        return guard.event(name, activity=activity, call=call, **fields)

    return run


def test_a_model_of_a_run_that_ended_well_is_released(guard, seal):
    version = seal()
    model, manifest = guard.vault.fetch(ACTIVITY)
    assert (manifest.version, model["weights"].tolist()) == (version, [0, 1, 2])
    assert guard.vault.verify(ACTIVITY, version) == manifest
    assert guard.vault.load(ACTIVITY, version=version)["weights"].tolist() == [0, 1, 2]


UNRELEASED = {
    "killed": {"outcome": ""},
    "refused": {"outcome": "refused"},
    "failed": {"outcome": "failed"},
    "never recorded as sealed": {"sealed": False},
    "ended by another run": {"ended_by": "two"},
    "of another activity": {"activity": "other"},
}


@pytest.mark.parametrize("how", UNRELEASED.values(), ids=UNRELEASED)
def test_a_model_of_any_other_run_is_not(guard, seal, how):
    version = seal(**how)
    for use in (
        lambda: guard.vault.fetch(ACTIVITY),
        lambda: guard.vault.load(ACTIVITY, version=version),
        lambda: guard.vault.verify(ACTIVITY, version),
    ):
        with pytest.raises(ModelRejected, match="was not released"):
            use()


@pytest.mark.parametrize("how", UNRELEASED.values(), ids=UNRELEASED)
def test_the_newest_released_version_is_taken(guard, seal, how):
    released = seal(call="zero", ended_by="zero")
    seal(**how)
    assert guard.vault.fetch(ACTIVITY)[1].version == released


def test_the_listing_says_what_is_wrong_with_each(guard, seal):
    seal(call="zero", ended_by="zero")
    seal(outcome="failed")
    (_, _, sound), (_, _, wrong) = guard.vault.listing()
    assert sound.version == "000001"
    assert isinstance(wrong, ModelRejected)


def test_a_tampered_newest_version_is_an_error_and_not_passed_over(guard, seal, world):
    seal()
    version = seal(call="two", ended_by="two")
    path = world.folder / ".compliance" / "models" / ACTIVITY / version / "model.sealed"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(ModelRejected, match="not what was signed"):
        guard.vault.fetch(ACTIVITY)


def folder_of(world, version):
    return world.folder / ".compliance" / "models" / ACTIVITY / version


def test_a_newest_version_that_is_gone_is_an_error_and_no_older_one_takes_its_place(
    guard, seal, world
):
    older = seal()
    newest = seal(call="two", ended_by="two")
    assert list(guard.vault.missing()) == []
    shutil.rmtree(folder_of(world, newest))
    with pytest.raises(ModelRejected, match="version 000002 was sealed and is gone"):
        guard.vault.fetch(ACTIVITY)
    assert guard.vault.fetch(ACTIVITY, version=older)[1].version == older
    assert list(guard.vault.missing()) == [(ACTIVITY, newest)]


def test_a_model_whose_every_version_is_gone_is_not_one_that_never_was(guard, seal, world):
    version = seal()
    shutil.rmtree(folder_of(world, version).parent)
    with pytest.raises(ModelRejected, match="is gone"):
        guard.vault.load(ACTIVITY)
    assert list(guard.vault.missing()) == [(ACTIVITY, version)]


def test_an_older_version_that_is_gone_is_reported_and_does_not_stop_the_newest(guard, seal, world):
    older = seal()
    newest = seal(call="two", ended_by="two")
    shutil.rmtree(folder_of(world, older))
    assert guard.vault.fetch(ACTIVITY)[1].version == newest
    assert list(guard.vault.missing()) == [(ACTIVITY, older)]


@pytest.mark.parametrize("how", ["killed", "refused", "failed", "ended by another run"])
def test_a_version_that_was_never_released_is_not_missed(guard, seal, world, how):
    shutil.rmtree(folder_of(world, seal(**UNRELEASED[how])))
    assert list(guard.vault.missing()) == []
    with pytest.raises(InputError, match="there is no model"):
        guard.vault.fetch(ACTIVITY)


def test_an_intent_that_is_not_there_releases_nothing(guard):
    origin = Origin(
        activity=ACTIVITY, actor="a", data_digest="", policy_digest="", rows=0, intent=10**6
    )
    guard.vault.seal(ACTIVITY, MODEL, origin)
    with pytest.raises(ModelRejected):
        guard.vault.fetch(ACTIVITY)


def test_no_model_is_an_error_of_its_own_and_makes_no_key(guard):
    before = guard.keys.listing()
    with pytest.raises(InputError, match="there is no model 'none'"):
        guard.vault.fetch("none")
    assert guard.keys.listing() == before
