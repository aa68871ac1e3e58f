import math
import signal
import subprocess
import sys
import uuid
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from compliance.dp.ledger import Ledger, Reservation
from compliance.errors import BudgetExhausted, InputError
from compliance.policy import Budget
from compliance.store import Store

ONE = Budget(dataset="people", epsilon=1.0, delta=1e-5)
WHO = {"activity": "scoring", "actor": "ana"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = Store.open(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}")
    yield opened
    opened.close()


@pytest.fixture
def ledger(store):
    return Ledger(store)


@pytest.fixture
def name():
    """A budget of this test's own."""
    return uuid.uuid4().hex


def reserve(ledger, name, epsilon, delta=0.0, budget=ONE, connection=None):
    return ledger.reserve(connection, name, budget, epsilon, delta, **WHO)


def granted(ledger, name, epsilon, delta=0.0, budget=ONE):
    for count in range(1_000):  # a broken ledger fails here and does not loop for ever
        try:
            reserve(ledger, name, epsilon, delta, budget)
        except BudgetExhausted:
            return count
    return None


def account(store, name):
    query = sa.text("SELECT epsilon, delta FROM compliance_budget_account WHERE budget = :name")
    with store.reading() as connection:
        return tuple(connection.execute(query, {"name": name}).one())


# -- reserving -----------------------------------------------------------------------------


def test_a_hundred_requests_of_a_hundredth_fit_and_no_more(ledger, name):
    assert granted(ledger, name, 0.01) == 100
    found = ledger.spending(name)
    assert (found.reserved, found.remaining, found.runs) == (1, 0, 100)


def test_delta_is_held_as_exactly_as_epsilon(ledger, name):
    assert granted(ledger, name, 0.001, 1e-6) == 10
    assert ledger.spending(name).delta_remaining == 0


def test_the_refusal_says_what_is_left_and_what_to_do(ledger, name):
    reserve(ledger, name, 0.75)
    with pytest.raises(
        BudgetExhausted, match=r"epsilon 0\.25 .* left.*asks for epsilon 0\.5 .*lower"
    ):
        reserve(ledger, name, 0.5)
    assert ledger.spending(name).runs == 1


def test_two_budgets_do_not_touch(ledger, name):
    assert granted(ledger, name, 0.5) == granted(ledger, name + "-other", 0.5) == 2


def test_a_raised_budget_grants_more_and_a_lowered_one_nothing(ledger, name):
    assert granted(ledger, name, 0.5) == 2
    raised = ONE.model_copy(update={"epsilon": 1.5})
    assert granted(ledger, name, 0.5, budget=raised) == 1
    assert ledger.spending(name).epsilon_total == Decimal("1.5")
    lowered = ONE.model_copy(update={"epsilon": 0.5})
    assert granted(ledger, name, 0.1, budget=lowered) == 0
    assert ledger.spending(name, lowered).remaining == 0


def test_amounts_too_fine_to_hold_are_rounded_up(ledger, name):
    assert reserve(ledger, name, 1e-12, 1e-30).epsilon == Decimal("1e-9")
    assert ledger.spending(name).delta_reserved == Decimal("1e-18")


@pytest.mark.parametrize("epsilon", [0, -0.1, math.nan, math.inf, "much", None, 1e300])
def test_an_epsilon_that_is_no_loss_is_refused(ledger, name, epsilon):
    with pytest.raises(InputError, match="epsilon"):
        reserve(ledger, name, epsilon)
    assert ledger.spending(name).runs == 0


@pytest.mark.parametrize("delta", [-1e-9, 1.0, math.nan, math.inf])
def test_a_delta_out_of_range_is_refused(ledger, name, delta):
    with pytest.raises(InputError, match="delta"):
        reserve(ledger, name, 0.1, delta)


def test_a_reservation_belongs_to_the_caller_s_transaction(ledger, store, name):
    def crash():
        with store.writing() as connection:
            reserve(ledger, name, 0.5, connection=connection)
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        crash()
    assert ledger.spending(name).runs == 0
    with store.writing() as connection:
        reserve(ledger, name, 0.5, connection=connection)
    assert ledger.spending(name).runs == 1


# -- settling ------------------------------------------------------------------------------


def test_settling_frees_what_was_not_spent(ledger, name):
    held = reserve(ledger, name, 1.0, 1e-5)
    ledger.settle(held, 0.4, 1e-6)
    found = ledger.spending(name)
    assert (found.reserved, found.settled, found.remaining) == (0, Decimal("0.4"), Decimal("0.6"))
    assert found.delta_settled == Decimal("1e-6")
    assert (found.runs, found.unsettled) == (1, 0)


def test_a_run_that_took_no_step_spends_nothing(ledger, name):
    ledger.settle(reserve(ledger, name, 1.0), 0.0, 0.0)
    assert ledger.spending(name).remaining == 1


def test_settling_twice_alike_changes_nothing_and_otherwise_raises(ledger, store, name):
    held = reserve(ledger, name, 1.0, 1e-5)
    ledger.settle(held, 0.4, 1e-6)
    before = account(store, name)
    ledger.settle(held, 0.4, 1e-6)
    with pytest.raises(InputError, match="other figures"):
        ledger.settle(held, 0.3, 1e-6)
    with pytest.raises(InputError, match="other figures"):
        ledger.settle(held, 0.9, 1e-6)
    assert account(store, name) == before


@pytest.mark.parametrize(("epsilon", "delta"), [(0.6, 0.0), (0.1, 1e-4)])
def test_spending_more_than_was_reserved_raises_and_stays_reserved(ledger, name, epsilon, delta):
    held = reserve(ledger, name, 0.5, 1e-6)
    with pytest.raises(BudgetExhausted, match="stays spent"):
        ledger.settle(held, epsilon, delta)
    assert ledger.spending(name).reserved == Decimal("0.5")


@pytest.mark.parametrize("epsilon", [-0.1, math.nan, math.inf])
def test_a_figure_that_is_no_loss_cannot_be_settled(ledger, name, epsilon):
    held = reserve(ledger, name, 0.5)
    with pytest.raises(InputError, match="epsilon"):
        ledger.settle(held, epsilon, 0.0)
    assert ledger.spending(name).unsettled == 1


def test_only_what_was_reserved_can_be_settled(ledger, name):
    held = reserve(ledger, name, 0.5)
    unknown = Reservation(held.id + 10**6, name, held.epsilon, held.delta)
    elsewhere = Reservation(held.id, name + "-other", held.epsilon, held.delta)
    for wrong in (unknown, elsewhere):
        with pytest.raises(InputError, match="no reservation"):
            ledger.settle(wrong, 0.1, 0.0)


def test_a_larger_claim_made_up_by_the_caller_is_not_believed(ledger, name):
    held = reserve(ledger, name, 0.1)
    with pytest.raises(BudgetExhausted):
        ledger.settle(Reservation(held.id, name, Decimal(1), Decimal(0)), 0.5, 0.0)


# -- reading -------------------------------------------------------------------------------


def test_history_tells_who_spent_what_and_when(ledger, name):
    first = reserve(ledger, name, 0.3, 1e-6)
    second = reserve(ledger, name, 0.2)
    ledger.settle(first, 0.25, 1e-6)
    done, running = ledger.history(name)
    assert (done.id, running.id) == (first.id, second.id)
    assert (done.dataset, done.unit, done.activity, done.actor) == (
        "people",
        "subject",
        "scoring",
        "ana",
    )
    assert (done.epsilon, done.settled_epsilon) == (Decimal("0.3"), Decimal("0.25"))
    assert done.reserved_at <= done.settled_at
    assert (running.settled_at, running.settled_epsilon, running.settled_delta) == (
        None,
        None,
        None,
    )


def test_a_budget_never_drawn_on_has_all_of_it_left(ledger, name):
    assert ledger.history(name) == []
    assert ledger.spending(name).epsilon_total is None
    assert ledger.spending(name, ONE).remaining == 1


# -- the law ---------------------------------------------------------------------------------

AMOUNT = st.integers(1, 40).map(lambda n: n / 100)
MOVE = st.one_of(
    st.tuples(st.just("reserve"), AMOUNT, st.sampled_from([0.0, 1e-6, 5e-6])),
    st.tuples(st.just("settle"), st.integers(0, 20), st.integers(0, 120)),
)


@given(moves=st.lists(MOVE, max_size=25))
def test_no_sequence_of_requests_overspends_or_loses_budget(store, moves):
    """Grants equal a serial filter over exact decimals; the account equals the sum of its runs."""
    ledger, name = Ledger(store), uuid.uuid4().hex
    held, model = [], {}
    for what, first, second in moves:
        if what == "reserve":
            asked = (Decimal(str(first)), Decimal(str(second)))
            spent = [sum(pair[i] for pair in model.values()) for i in (0, 1)]
            fits = spent[0] + asked[0] <= 1 and spent[1] + asked[1] <= Decimal("1e-5")
            try:
                held.append(reserve(ledger, name, first, second))
                assert fits
                model[held[-1].id] = asked
            except BudgetExhausted:
                assert not fits
        elif held:
            chosen = held[first % len(held)]
            part = chosen.epsilon * second / 100
            try:
                ledger.settle(chosen, part, chosen.delta)
                model[chosen.id] = (part, chosen.delta)
            except BudgetExhausted:
                assert second > 100
            except InputError:
                assert model[chosen.id][0] != part
    found = ledger.spending(name, ONE)
    total = sum((pair[0] for pair in model.values()), Decimal(0))
    assert found.reserved + found.settled == total <= 1
    assert found.remaining == 1 - total
    assert found.delta_reserved + found.delta_settled <= Decimal("1e-5")
    if model:
        assert account(store, name)[0] == int(total * 10**9)


# -- several processes -------------------------------------------------------------------------

WORKER = """
import sys
from compliance.dp.ledger import Ledger
from compliance.errors import BudgetExhausted
from compliance.policy import Budget
from compliance.store import Store

ledger = Ledger(Store.open(sys.argv[1]))
budget = Budget(dataset="people", epsilon=1.0, delta=1e-5)
print("ready", flush=True)
sys.stdin.readline()
count = 0
try:
    while True:
        ledger.reserve(None, "race", budget, 0.01, 0.0, activity="scoring", actor=sys.argv[2])
        count += 1
except BudgetExhausted:
    print(count, flush=True)
"""
ROOT = Path(__file__).resolve().parents[2]


def started(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def race(url, processes=8):
    """Let all begin at once, and return how much each was granted."""
    workers = [started(WORKER, url, f"worker-{n}") for n in range(processes)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    assert all(worker.returncode == 0 for worker in workers)
    return [int(output) for output in outputs]


def assert_exactly_a_hundred(url):
    Store.open(url).close()
    counts = race(url)
    store = Store.open(url)
    found = Ledger(store).spending("race")
    actors = Counter(drawing.actor for drawing in Ledger(store).history("race"))
    total, _ = account(store, "race")
    store.close()
    assert sum(counts) == found.runs == actors.total() == 100
    assert (found.reserved, found.remaining, total) == (1, 0, 10**9)


@pytest.mark.slow
def test_eight_processes_are_granted_exactly_the_budget_on_sqlite(tmp_path):
    assert_exactly_a_hundred(f"sqlite:///{tmp_path / 'race.db'}")


@pytest.mark.slow
def test_eight_processes_are_granted_exactly_the_budget_on_postgresql(postgres_url):
    assert_exactly_a_hundred(postgres_url)


KILLED = """
import os, signal, sys
from compliance.dp.ledger import Ledger
from compliance.policy import Budget
from compliance.store import Store

store = Store.open(sys.argv[1])
ledger = Ledger(store)
budget = Budget(dataset="people", epsilon=1.0, delta=1e-5)
who = {"activity": "scoring", "actor": "ana"}
if sys.argv[2] == "before settling":
    held = ledger.reserve(None, "race", budget, 0.6, 1e-6, **who)
    os.kill(os.getpid(), signal.SIGKILL)
with store.writing() as connection:
    held = ledger.reserve(connection, "race", budget, 0.6, 1e-6, **who)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("moment", "spent"), [("before settling", Decimal("0.6")), ("before committing", Decimal(0))]
)
@pytest.mark.parametrize("where", ["sqlite", "postgresql"])
def test_a_killed_run_stays_spent_at_its_cap_once_it_was_granted(
    tmp_path, request, where, moment, spent
):
    url = f"sqlite:///{tmp_path / 'killed.db'}"
    if where == "postgresql":
        url = request.getfixturevalue("postgres_url")
    process = started(KILLED, url, moment)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    store = Store.open(url)
    found = Ledger(store).spending("race", ONE)
    assert found.reserved == spent
    assert found.remaining == 1 - spent
    assert granted(Ledger(store), "race", 0.4) == (1 if spent else 2)
    store.close()


def test_the_first_two_requests_may_come_at_once(postgres_url):
    """Both find no account; the loser of the insert waits, and then sees the winner's."""
    store = Store.open(postgres_url)
    ledger = Ledger(store)
    with store.writing() as connection:
        reserve(ledger, "first", 0.6, connection=connection)
        loser = started(
            WORKER.replace('"race"', '"first"').replace("0.01", "0.6"), postgres_url, "b"
        )
        assert loser.stdout.readline() == "ready\n"
        loser.stdin.write("go\n")
        loser.stdin.flush()
        waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        while not connection.execute(waiting).scalar_one():
            assert loser.poll() is None
    assert loser.communicate(timeout=60)[0] == "0\n"
    assert ledger.spending("first").runs == 1
    store.close()
