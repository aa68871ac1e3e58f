"""Bad input: a clear error, and nothing half-written."""

import os
import sqlite3
import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT
from world import ACTIVITY, OFFICER, fit

from compliance import Guard
from compliance.errors import (
    ComplianceError,
    ConfigurationError,
    InputError,
    StoreError,
    TrailCorrupt,
)


def train(world, guard, frame, body=fit):
    return guard.training(ACTIVITY)(body)(guard.dataset("applicants")(lambda: frame)())


BAD = {
    "no rows": (lambda f: f.iloc[:0], "has no rows"),
    "no columns": (lambda f: pd.DataFrame(), "has no rows"),
    "no subject": (lambda f: f.drop(columns="customer_id"), "no column 'customer_id'"),
    "no label": (lambda f: f.drop(columns="repaid"), "columns repaid"),
    "no sensitive column": (lambda f: f.drop(columns="sex"), "columns sex"),
    "other columns": (lambda f: f[["customer_id"]], "columns repaid, sex"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_rows_that_cannot_be_used_are_an_error_before_the_body(world, guard, change, message):
    ran = []
    with pytest.raises(InputError, match=message):
        train(world, guard, change(world.frame), lambda run, data: ran.append(1))
    assert ran == []
    assert world.models() == []
    assert world.last("training.outcome")["outcome"] == "refused"


def test_yes_and_no_where_the_policy_says_1_is_no_silent_zero(world, guard):
    frame = world.frame.assign(repaid=lambda f: f["repaid"].map({1: "yes", 0: "no"}))
    with pytest.raises(InputError, match="do not use the same two values"):
        train(world, guard, frame)
    assert world.models() == []


def test_a_column_of_mixed_types_is_no_digest_and_no_model(world):
    guard = world.alter(remove=["fairness"]).guard()
    frame = world.frame.astype({"debt": object})
    frame.loc[frame.index[::2], "debt"] = "much"
    with pytest.raises(InputError, match="mixes types") as caught:
        train(world, guard, frame, lambda run, data: fit(run, data.assign(debt=0)))
    assert "much" not in str(caught.value)
    assert world.models() == []


def test_unknown_purposes_states_and_nobody_are_errors(world):
    guard = world.guard(OFFICER)
    for state, who, purpose in (
        ("given", [1], "credit-scorin"),
        ("granted", [1], ACTIVITY),
        ("given", [], ACTIVITY),
        ("given", [None], ACTIVITY),
        ("given", [" "], ACTIVITY),
    ):
        with pytest.raises((InputError, KeyError)):
            guard.consent(state, who, purpose=purpose, subject_type="customer")
    assert world.events() == ["consent.given"]


# -- the audit store -----------------------------------------------------------------------


def store_of(world):
    return world.folder / ".compliance" / "compliance.db"


def test_a_corrupted_database_is_a_clear_error(world):
    path = store_of(world)
    path.with_name("compliance.db-wal").unlink(missing_ok=True)
    path.write_bytes(b"this is no database" * 1000)
    with pytest.raises(StoreError, match="restore it from a backup"):
        world.guard()


def test_a_database_with_a_broken_page_is_a_clear_error(world, guard, applicants):
    handle = applicants()
    guard.store.close()
    with sqlite3.connect(store_of(world)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    path = store_of(world)
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    ran = []
    with pytest.raises(ComplianceError):
        guard.training(ACTIVITY)(lambda run, data: ran.append(1))(handle)
    assert ran == []


def test_an_edited_head_is_noticed_before_anything_is_appended(world, guard, applicants):
    handle = applicants()
    with sqlite3.connect(store_of(world)) as connection:
        connection.execute("UPDATE compliance_trail_head SET size = size - 1")
    connection.close()
    ran = []
    with pytest.raises(TrailCorrupt, match="compliance trail verify"):
        guard.training(ACTIVITY)(lambda run, data: ran.append(1))(handle)
    assert ran == []


def test_a_read_only_database_runs_nothing(world):
    url = f"sqlite:///file:{store_of(world)}?mode=ro&uri=true"
    ran = []
    with pytest.raises(StoreError, match=r"readonly|read-only|writable"):
        world.guard(database=url).dataset("applicants")(lambda: ran.append(1))()
    assert ran == []


@pytest.fixture
def impatient(world):
    """Return a guard that waits for a lock a tenth of a second."""
    return world.guard(database=f"sqlite:///{store_of(world)}?timeout=0.1")


def test_a_locked_database_runs_nothing(world, impatient):
    rows = impatient.dataset("applicants")(lambda: world.frame)
    handle, ran = rows(), []
    other = sqlite3.connect(store_of(world), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another process holds it"):
        impatient.training(ACTIVITY)(lambda run, data: ran.append(1))(handle)
    other.execute("ROLLBACK")
    other.close()
    assert ran == []
    assert impatient.training(ACTIVITY)(fit)(handle) is not None


def test_a_database_that_locks_while_the_body_runs_withholds_the_result(world, impatient):
    rows = impatient.dataset("applicants")(lambda: world.frame)
    handle, got = rows(), []
    other = sqlite3.connect(store_of(world), isolation_level=None)

    def body(run, data):
        other.execute("BEGIN IMMEDIATE")
        return fit(run, data)

    with pytest.raises(StoreError, match="another process holds it"):
        got.append(impatient.training(ACTIVITY)(body)(handle))
    other.execute("ROLLBACK")
    other.close()
    assert got == []
    with pytest.raises(ComplianceError):
        impatient.load(ACTIVITY)
    assert world.verified()


def test_keys_without_their_master_key_are_a_clear_error(world):
    next((world.folder / ".compliance" / "keys").iterdir()).unlink()
    with pytest.raises(ConfigurationError, match=r"master|restore"):
        world.guard()


def test_a_folder_without_policies_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigurationError, match="compliance init"):
        Guard(tmp_path)
    assert not (tmp_path / ".compliance").exists()


# -- a missing extra -----------------------------------------------------------------------

SCRIPT = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
sys.path.insert(0, {tests!r})
from pathlib import Path
import pandas as pd
from world import World, ACTIVITY
from compliance.errors import MissingExtra

world = World(Path({folder!r}), pd.read_csv({frame!r}))
guard = world.guard()
rows = guard.dataset("applicants")(lambda: world.frame)

def body(run, data):
    print("body ran")

try:
    guard.training(ACTIVITY)(body)(rows())
except MissingExtra as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("blocked", "extra"),
    [
        (["presidio_analyzer"], "pii"),
        (["fairlearn"], "fairness"),
        (["scipy", "fairlearn"], "fairness"),
    ],
)
def test_a_missing_extra_is_named_before_the_body_runs(world, tmp_path, blocked, extra):
    frame = tmp_path / "frame.csv"
    world.frame.to_csv(frame, index=False)
    tests = str(ROOT / "tests")
    script = SCRIPT.format(blocked=blocked, tests=tests, folder=str(world.folder), frame=str(frame))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert f"compliance-toolkit[{extra}]" in done.stdout, done.stdout + done.stderr
    assert "body ran" not in done.stdout
    assert world.models() == []
