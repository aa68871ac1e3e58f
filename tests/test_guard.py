"""The guard: what it reads, which names it knows, and how functions look once wrapped."""

import inspect
import pickle

import pandas as pd
import pytest
from world import ACTIVITY, OFFICER, applicants, fit, guard, strict, template, world

from compliance import Guard
from compliance.errors import (
    AccessDenied,
    ConfigurationError,
    InputError,
    PolicyError,
    PurposeError,
    Refused,
)
from compliance.handle import Handle

__all__ = ["applicants", "guard", "strict", "template", "world"]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda g: g.dataset("aplicants"), "unknown data set 'aplicants'.*'applicants'"),
        (
            lambda g: g.training("credit-scorin"),
            "unknown activity 'credit-scorin'.*'credit-scoring'",
        ),
        (
            lambda g: g.decision("credit_scoring"),
            "unknown activity 'credit_scoring'.*'credit-scoring'",
        ),
        (lambda g: g.activity("marketing").__enter__(), "unknown activity 'marketing'"),
        (lambda g: g.encrypt("x", pd.DataFrame()), "unknown data set 'x'"),
    ],
)
def test_an_unknown_name_is_an_error_at_once_that_names_the_nearest(guard, use, message):
    with pytest.raises(PolicyError, match=message):
        use(guard)


def test_the_repr_shows_where_and_under_which_policy(guard, world):
    assert repr(guard) == f"<guard of {world.folder}, policy {guard.policy.digest[:12]}>"


def test_settings_by_keyword_are_checked(world):
    with pytest.raises(ConfigurationError, match="unknown setting 'identiti'"):
        Guard(world.folder, identiti="os")


def test_a_typo_in_the_policy_stops_the_guard_with_file_line_and_nearest_key(world):
    path = world.folder / "policies" / "activities.yaml"
    path.write_text(path.read_text("utf-8").replace("on_fail", "on_fial"), "utf-8")
    with pytest.raises(PolicyError, match=r"activities\.yaml:\d+.*on_fial.*on_fail"):
        world.guard()


def test_an_unknown_role_opens_nothing(world):
    with pytest.raises(AccessDenied, match="'mallory' has no role"):
        world.guard("mallory").training(ACTIVITY)(fit)(None)
    assert world.last("training.outcome")["outcome"] == "refused"


def test_wrapped_functions_keep_name_and_lose_the_run(guard):
    @guard.training(ACTIVITY)
    def train(run, data, *, depth: int = 3) -> object:
        """Train."""

    assert train.__name__ == "train"
    assert train.__doc__ == "Train."
    assert str(inspect.signature(train)) == "(data, *, depth: int = 3) -> object"


@pytest.mark.parametrize("kind", ["training", "decision"])
def test_a_function_without_room_for_the_run_is_refused_at_once(guard, kind):
    for function in (lambda: None, lambda *rows: None, lambda *, run: None):
        with pytest.raises(InputError, match="needs a first parameter for the run"):
            getattr(guard, kind)(ACTIVITY)(function)


def test_a_method_is_refused_at_once(guard):
    with pytest.raises(InputError, match="is a method"):

        class Trainer:
            @guard.training(ACTIVITY)
            def train(self, run, data):
                """Train."""


def test_wrong_arguments_are_an_error_before_anything_is_spent(guard, world, applicants):
    handle = applicants()
    before = world.size()
    with pytest.raises(TypeError, match="too many positional arguments"):
        guard.training(ACTIVITY)(lambda run: None)(handle)
    with pytest.raises(TypeError, match="missing a required argument: 'data'"):
        guard.training(ACTIVITY)(fit)()
    assert world.size() == before


def dated():
    return pd.DataFrame({"a": [1]})


def test_wrapped_functions_pickle_by_name(guard, monkeypatch):
    wrapped = guard.dataset("applicants")(dated)
    monkeypatch.setitem(globals(), "dated", wrapped)
    monkeypatch.setitem(__import__("sys").modules, __name__, type("M", (), globals()))
    assert pickle.loads(pickle.dumps(wrapped)) is wrapped


def test_no_argument_at_the_call_site_loosens_the_policy():
    from compliance.guard import Run

    assert [*inspect.signature(Run.private).parameters] == [
        "self",
        "model",
        "optimizer",
        "loader",
        "epochs",
    ]
    assert [*inspect.signature(Run.open).parameters] == ["self", "data"]
    assert [*inspect.signature(Guard.training).parameters] == ["self", "name"]
    assert [*inspect.signature(Guard.decision).parameters] == ["self", "name"]


# -- two guards in one process ----------------------------------------------------------


def test_a_handle_opens_under_the_policy_it_was_closed_under_and_no_other(world, applicants):
    handle = applicants()
    loose = world.alter(pii={"action": "allow"}).guard()
    with pytest.raises(PurposeError, match="closed under another policy"):
        loose.training(ACTIVITY)(fit)(handle)


def test_guards_of_two_people_share_handles_and_keep_their_rights(world, guard, applicants):
    other = world.guard(OFFICER)
    with pytest.raises(AccessDenied):
        other.training(ACTIVITY)(fit)(applicants())
    assert guard.training(ACTIVITY)(fit)(applicants()) is not None


def test_inside_an_activity_the_activity_s_guard_opens_the_other_guard_s_data_set(world, guard):
    another = world.guard()

    @another.dataset("applicants")
    def applicants():
        return world.frame

    with guard.activity(ACTIVITY) as run:
        frame = applicants()
        assert "name" not in frame.columns
    opened = world.last("activity.opened")
    assert opened["call"] == run.id


def test_a_guard_of_another_policy_does_not_open_inside(world, guard):
    loose = world.alter(pii={"action": "allow"}).guard()
    loaded = loose.dataset("applicants")(lambda: world.frame)
    with guard.activity(ACTIVITY), pytest.raises(PurposeError, match="another policy"):
        loaded()


# -- the activity block -----------------------------------------------------------------


def test_a_run_ends_with_its_block(guard, applicants, world):
    with guard.activity(ACTIVITY) as run:
        kept = run
    handle = applicants()
    assert isinstance(handle, Handle)
    for use in (
        lambda: kept.open(handle),
        lambda: kept.private(None),
        kept.model,
        lambda: kept.release(1),
        lambda: kept.predictor(1),
    ):
        with pytest.raises(Refused, match="is over"):
            use()
    assert "activity.opened" not in world.events()


def test_a_run_shows_no_row(guard, applicants):
    with guard.activity(ACTIVITY) as run:
        run.open(applicants())
        assert repr(run) == f"<run {run.id} of 'credit-scoring'>"
