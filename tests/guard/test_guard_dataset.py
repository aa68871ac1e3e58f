"""Story 1, the data layer: closed outside, narrowed inside, and on record."""

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from world import ACTIVITY, FEATURES, OFFICER, fit

from compliance.errors import (
    AccessDenied,
    ConsentMissing,
    DecryptionFailed,
    InputError,
    PIIFound,
    PurposeError,
    UnregisteredData,
)
from compliance.handle import Handle

SEEN = ["customer_id", *FEATURES, "repaid"]


def look(run, data):
    """Return what a body sees instead of training; nothing is sealed or audited here."""
    return data


@pytest.fixture
def open_world(world):
    """Return a world whose activity neither audits nor seals: what the body sees comes back."""
    return world.alter(seal=False, remove=["fairness"])


def loaded(guard, frame, name="applicants"):
    return guard.dataset(name)(lambda: frame)


def test_outside_an_activity_the_data_set_is_closed(applicants, guard):
    handle = applicants()
    assert isinstance(handle, Handle)
    assert repr(handle) == f"<closed data set 'applicants', policy {guard.policy.digest[:12]}>"


def test_inside_an_activity_it_is_the_opened_frame(guard, applicants):
    with guard.activity(ACTIVITY) as run:
        frame = applicants()
        assert isinstance(frame, pd.DataFrame)
        assert list(frame.columns) == SEEN
        assert run.open(frame) is frame
    assert isinstance(applicants(), Handle)


def test_a_handle_made_outside_is_opened_by_the_run(guard, applicants):
    handle = applicants()
    with guard.activity(ACTIVITY) as run:
        assert list(run.open(handle).columns) == SEEN


@pytest.mark.parametrize(
    "convert",
    [pl.from_pandas, pa.Table.from_pandas, lambda f: pl.from_pandas(f).lazy()],
    ids=["polars", "arrow", "lazy"],
)
def test_the_library_of_the_user_is_kept(open_world, convert):
    guard = open_world.guard()
    native = convert(open_world.frame)
    seen = guard.training(ACTIVITY)(look)(loaded(guard, native)())
    assert type(seen) is (pl.DataFrame if isinstance(native, pl.LazyFrame) else type(native))
    assert "name" not in list(seen.schema if isinstance(seen, pl.DataFrame) else seen.column_names)


def test_rows_without_consent_and_columns_outside_the_purpose_reach_nobody(open_world):
    guard = open_world.guard()
    seen = guard.training(ACTIVITY)(look)(loaded(guard, open_world.frame)())
    assert set(map(str, seen["customer_id"])) == open_world.consented()
    assert list(seen.columns) == SEEN
    facts = open_world.last("training.opened")["facts"]
    assert facts["rows"] == 600
    assert facts["rows_without_consent"] == 600 - len(seen) > 0
    assert facts["columns_dropped"] == 2


def test_a_withdrawal_counts_from_the_next_call_on(open_world):
    guard = open_world.guard()
    train, handle = guard.training(ACTIVITY)(look), loaded(guard, open_world.frame)()
    gone = int(train(handle)["customer_id"].iloc[0])
    open_world.guard(OFFICER).consent(
        "withdrawn", [gone], purpose=ACTIVITY, subject_type="customer"
    )
    assert gone not in set(train(handle)["customer_id"])


def test_nobody_s_consent_opens_nothing(open_world):
    guard = open_world.guard()
    strangers = open_world.frame.assign(customer_id=lambda f: f["customer_id"] + 10_000)
    with pytest.raises(ConsentMissing, match="compliance consent record"):
        guard.training(ACTIVITY)(look)(loaded(guard, strangers)())


def test_a_row_of_nobody_is_dropped(open_world):
    guard = open_world.guard()
    frame = open_world.frame.astype({"customer_id": "Int64"})
    frame.loc[frame.index[0], "customer_id"] = pd.NA
    seen = guard.training(ACTIVITY)(look)(loaded(guard, frame)())
    assert seen["customer_id"].notna().all()


def test_a_column_that_the_policy_does_not_list_reaches_nobody(open_world):
    guard = open_world.guard()
    frame = open_world.frame.assign(religion="secret")
    seen = guard.training(ACTIVITY)(look)(loaded(guard, frame)())
    assert "religion" not in seen.columns


def test_a_data_set_that_the_activity_does_not_name_is_refused(open_world):
    guard = open_world.dataset("payroll").guard()
    with pytest.raises(PurposeError, match="may not use data set 'payroll'; it names: applicants"):
        guard.training(ACTIVITY)(look)(loaded(guard, open_world.frame, "payroll")())


def test_reading_a_data_set_needs_a_role(world):
    stranger = world.guard("mallory")
    ran = []
    with pytest.raises(
        AccessDenied, match="'mallory' has no role that permits 'read' on 'dataset/applicants'"
    ):
        stranger.dataset("applicants")(lambda: ran.append(1))()
    assert ran == []
    assert world.events()[-2:] == ["dataset.intent", "dataset.outcome"]
    assert world.last("dataset.outcome")["outcome"] == "refused"


# -- encrypted columns -------------------------------------------------------------------


@pytest.fixture
def sealed(open_world):
    world = open_world.column("debt", encrypted=True)
    guard = world.guard()
    return world, guard, guard.encrypt("applicants", world.frame)


def test_encrypted_columns_are_opened_for_the_body(sealed):
    world, guard, stored = sealed
    assert isinstance(stored["debt"].iloc[0], bytes)
    seen = guard.training(ACTIVITY)(look)(loaded(guard, stored)())
    clear = world.frame.set_index("customer_id")["debt"]
    assert seen["debt"].tolist() == clear[seen["customer_id"]].tolist()
    assert world.last("training.opened")["facts"]["columns_opened"] == 1


def test_cells_swapped_between_people_are_refused(sealed):
    world, guard, stored = sealed
    agreed = stored.index[stored["customer_id"].astype(str).isin(world.consented())][:2]
    stored.loc[agreed, "debt"] = stored.loc[agreed, "debt"].to_numpy()[::-1]
    ran = []
    with pytest.raises(DecryptionFailed):
        guard.training(ACTIVITY)(lambda run, data: ran.append(1))(loaded(guard, stored)())
    assert ran == []


@pytest.mark.parametrize("cell", [b"", b"\x01short", "not sealed", 7])
def test_a_cell_that_is_not_sealed_is_refused(sealed, cell):
    _, guard, stored = sealed
    stored = stored.assign(debt=[cell] * len(stored))
    with pytest.raises(DecryptionFailed):
        guard.training(ACTIVITY)(look)(loaded(guard, stored)())


def test_a_person_whose_key_was_destroyed_is_left_out_and_everybody_else_is_served(open_world):
    world = open_world.column("debt", encrypted="subject")
    guard = world.guard()
    stored = guard.encrypt("applicants", world.frame)
    agreed = stored["customer_id"].astype(str).isin(world.consented())
    erased = stored["customer_id"][agreed].iloc[0]
    kind = guard.policy.dataset("applicants").subject_type
    with guard.store.writing() as connection:
        assert len(guard.keys.destroy_subject(connection, kind, erased)) == 1
    seen = guard.training(ACTIVITY)(look)(loaded(guard, stored)())
    clear = world.frame.set_index("customer_id")["debt"]
    assert erased not in set(seen["customer_id"])
    assert seen["debt"].tolist() == clear[seen["customer_id"]].tolist()
    assert world.last("training.opened")["facts"]["rows_erased"] == 1


def test_the_guard_seals_missing_values_and_lengths_where_it_is_asked_to(open_world):
    guard = open_world.column("debt", encrypted=True).guard()
    frame = open_world.frame.astype({"debt": object})
    frame.loc[frame.index[0], "debt"] = None
    stored = guard.encrypt("applicants", frame, nulls="seal", pad=64)
    assert {len(cell) for cell in stored["debt"]} == {33 + 64}


def test_an_encrypted_column_outside_the_purpose_is_dropped_unopened(open_world):
    world = open_world.column("debt", encrypted=True, purposes=["customer-support"])
    guard = world.guard()
    stored = world.frame.assign(debt=b"garbage")
    seen = guard.training(ACTIVITY)(look)(loaded(guard, stored)())
    assert "debt" not in seen.columns


# -- the scan ----------------------------------------------------------------------------


def leaky(world):
    return world.frame.assign(debt=[f"user{i}@example.com" for i in range(600)])


def test_undeclared_personal_data_is_blocked_before_the_body(open_world):
    guard = open_world.guard()
    ran = []
    with pytest.raises(PIIFound, match=r"applicants: .*debt \(EMAIL_ADDRESS\)") as caught:
        guard.training(ACTIVITY)(lambda run, data: ran.append(1))(
            loaded(guard, leaky(open_world))()
        )
    assert ran == []
    assert "@example.com" not in str(caught.value)
    refused = open_world.last("training.refused")["facts"]
    assert (refused["pii_sample"], refused["pii_seed"], refused["pii_action"]) == (500, 7, "block")
    assert refused["debt:EMAIL_ADDRESS"] > 0
    assert open_world.last("training.outcome")["facts"]["error"] == "PIIFound"


def test_undeclared_personal_data_is_masked(open_world):
    guard = open_world.alter(pii={"action": "mask"}).guard()
    seen = guard.training(ACTIVITY)(look)(loaded(guard, leaky(open_world))())
    assert not seen["debt"].astype(str).str.contains("@").any()
    assert (
        seen["income"].tolist()
        == open_world.frame.set_index("customer_id")["income"][seen["customer_id"]].tolist()
    )


def test_undeclared_personal_data_is_allowed_where_the_policy_allows_it_and_on_record(open_world):
    guard = open_world.alter(pii={"action": "allow"}).guard()
    seen = guard.training(ACTIVITY)(look)(loaded(guard, leaky(open_world))())
    assert seen["debt"].str.contains("@").all()
    assert open_world.last("training.opened")["facts"]["debt:EMAIL_ADDRESS"] > 0


def test_declared_personal_data_passes(open_world):
    open_world.column("debt", pii=["EMAIL_ADDRESS", "URL"])
    guard = open_world.guard()
    seen = guard.training(ACTIVITY)(look)(loaded(guard, leaky(open_world))())
    assert len(seen) > 500


def test_columns_in_any_script_can_be_recorded(open_world):
    open_world.column("schuldenhöhe", purposes=[ACTIVITY])
    guard = open_world.alter(pii={"action": "allow"}).guard()
    frame = leaky(open_world).rename(columns={"debt": "schuldenhöhe"})
    guard.training(ACTIVITY)(look)(loaded(guard, frame)())
    assert r"schuldenh\xf6he:EMAIL_ADDRESS" in open_world.last("training.opened")["facts"]


# -- unregistered data -------------------------------------------------------------------


def test_a_frame_from_nowhere_is_refused(world, guard):
    with pytest.raises(UnregisteredData, match=r"@guard\.dataset"):
        guard.training(ACTIVITY)(fit)(world.frame)
    with guard.activity(ACTIVITY) as run, pytest.raises(UnregisteredData):
        run.open(world.frame)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: [f],
        lambda f: {"a": (f,)},
        lambda f: f.to_numpy(),
        lambda f: f["age"],
        pl.from_pandas,
    ],
)
def test_nor_does_it_come_in_by_another_door(world, guard, wrap):
    with pytest.raises(UnregisteredData):
        guard.training(ACTIVITY)(fit)(wrap(world.frame))


def test_a_frame_opened_for_one_activity_does_not_enter_another(guard, applicants):
    train = guard.training(ACTIVITY)(fit)
    with guard.activity(ACTIVITY):
        frame = applicants()
        with pytest.raises(UnregisteredData):
            train(frame)


def test_where_the_policy_says_scan_a_frame_is_scanned(open_world):
    guard = open_world.alter(unregistered="scan").guard()
    train = guard.training(ACTIVITY)(look)
    with pytest.raises(PIIFound, match=r"\(unregistered\)"):
        train(open_world.frame)
    numbers = open_world.frame[[*FEATURES, "repaid"]]
    assert train(numbers).equals(numbers)
    opened = open_world.last("training.opened")
    assert opened["facts"]["pii_columns"] == len(FEATURES) + 1
    assert opened["dataset"] == ""


def test_where_the_policy_says_scan_an_array_is_still_refused_for_nothing_would_scan_it(open_world):
    guard = open_world.alter(unregistered="scan").guard()
    with pytest.raises(UnregisteredData):
        guard.training(ACTIVITY)(look)(open_world.frame.to_numpy())


def test_handles_inside_lists_and_dictionaries_are_opened_in_their_places(open_world):
    guard = open_world.guard()
    handle = loaded(guard, open_world.frame)()
    seen = guard.training(ACTIVITY)(lambda run, many, *, more: (many, more))(
        [handle, 1], more={"x": handle}
    )
    assert list(seen[0][0].columns) == list(seen[1]["x"].columns) == SEEN
    assert seen[0][1] == 1


def test_a_body_that_swallows_a_refusal_leaves_it_on_record(open_world):
    guard = open_world.dataset("payroll").guard()
    payroll = loaded(guard, open_world.frame, "payroll")

    def sneak(run, data):
        with pytest.raises(PurposeError):
            run.open(payroll())
        with pytest.raises(PurposeError):
            payroll()

    guard.training(ACTIVITY)(sneak)(loaded(guard, open_world.frame)())
    refused = [e for e in open_world.entries() if e["event"] == "training.refused"]
    assert [(e["facts"]["error"], e["purpose"]) for e in refused] == [
        ("PurposeError", ACTIVITY)
    ] * 2
    assert open_world.last("training.outcome")["outcome"] == "ok"


# -- what a loader may return ------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 7, [1, 2], {"a": [1]}, "rows.csv"])
def test_a_loader_returns_a_frame_or_it_is_an_error(guard, value):
    with pytest.raises(InputError, match="return a data frame"):
        guard.dataset("applicants")(lambda: value)()


def test_two_columns_of_one_name_are_an_error(guard):
    frame = pd.DataFrame([[1, 2]], columns=["age", "age"])
    handle = loaded(guard, frame)()
    with (
        guard.activity(ACTIVITY) as run,
        pytest.raises(InputError, match="two columns share a name"),
    ):
        run.open(handle)


def test_a_loader_that_loads_another_data_set_gets_it_closed(guard, applicants):
    @guard.dataset("applicants")
    def derived():
        assert isinstance(applicants(), Handle)
        raise RuntimeError

    with guard.activity(ACTIVITY), pytest.raises(RuntimeError):
        derived()
