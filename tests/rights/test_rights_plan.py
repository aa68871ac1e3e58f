"""A plan's hash covers what it says and, through a salt, what it hides."""

import datetime as dt
import json
import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.errors import InputError, IntegrityError
from compliance.rights.plan import Action, Plan, Step, StorePlan, decode, encode

values = st.one_of(
    st.integers(), st.text(), st.uuids(), st.dates(), st.datetimes(), st.binary(), st.booleans(),
    st.decimals(allow_nan=False), st.floats(allow_nan=False), st.none(),
)  # fmt: skip


def plan(keys=((1,), (2,)), salt="00" * 32, **changes):
    step = Step(
        "person", Action.DELETE, len(keys), "about the person", ("id",), keys=tuple(keys), **changes
    )
    store = StorePlan("shop", (step,), {"person": {"email": ("a@x.example",)}}, ("a@x.example",))
    return Plan("id", "erasure", "gdpr", "digest", (store,), salt)


@given(values)
def test_keys_survive_being_sealed_exactly(value):
    again = decode(json.loads(json.dumps(encode(value))))
    assert (again, type(again)) == (value, type(value))


@given(st.lists(st.tuples(values), max_size=5))
def test_a_plan_survives_being_taken_apart(keys):
    made = plan(keys)
    visible = json.loads(json.dumps(made.visible()))
    again = Plan.join(visible, [json.loads(json.dumps(made.secret(s))) for s in made.stores])
    assert again.digest == made.digest
    assert again.stores[0].same_rows(made.stores[0])


def test_the_hash_covers_what_is_read_and_what_is_sealed():
    digests = {plan().digest, plan(((1,), (3,))).digest, plan(columns=("x",)).digest}
    assert len(digests) == 3


def test_what_is_read_holds_no_key_and_no_identifier():
    text = json.dumps(plan(((123456789,),)).visible()) + repr(plan()) + repr(plan().stores[0].steps)
    assert "123456789" not in text
    assert "a@x.example" not in text


def test_the_same_rows_give_another_hash_each_time():
    fresh = [Plan("id", "erasure", "gdpr", "d", plan().stores) for _ in range(2)]
    assert fresh[0].digest != fresh[1].digest


def test_an_exchanged_secret_part_is_refused():
    made, other = plan(), plan(((1,), (3,)))
    with pytest.raises(IntegrityError, match="not the one that was planned"):
        Plan.join(made.visible(), [other.secret(other.stores[0])])


def test_two_rows_more_or_other_columns_are_not_the_same_rows():
    one = plan().stores[0]
    for other in (plan(((1,),)), plan(columns=("x",)), plan(((2,), (3,)))):
        assert not one.same_rows(other.stores[0])
    assert one.same_rows(plan(((2,), (1,))).stores[0])


def test_a_key_of_no_known_type_cannot_be_planned():
    with pytest.raises(InputError, match="type object"):
        encode(object())


def test_types_that_look_alike_stay_apart():
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for value in (moment, moment.date(), Decimal("1.0"), 1.0, uuid.UUID(int=1)):
        assert type(decode(encode(value))) is type(value)
