"""Story 1 for every kind of function: plain, coroutine, generator, asynchronous generator."""

import asyncio
import inspect

import pytest
from world import ACTIVITY, FEATURES, fit

from compliance.controls import current
from compliance.errors import InputError, Refused
from compliance.handle import Handle

STEPS = ["training.intent", "training.opened", "training.sealed", "training.outcome"]


@pytest.fixture
def model(guard, applicants):
    return guard.training(ACTIVITY)(fit)(applicants())


def drain(generator):
    """Return what a generator yields and what it returns."""
    items = []
    while True:
        try:
            items.append(next(generator))
        except StopIteration as stop:
            return items, stop.value


async def drained(generator):
    return [item async for item in generator]


# -- data sets -------------------------------------------------------------------------------


def test_an_asynchronous_data_set_is_closed_outside_and_open_inside(world, guard):
    @guard.dataset("applicants")
    async def applicants():
        await asyncio.sleep(0)
        return world.frame

    assert inspect.iscoroutinefunction(applicants)
    assert isinstance(asyncio.run(applicants()), Handle)

    async def notebook():
        with guard.activity(ACTIVITY):
            return await applicants()

    assert "sex" not in asyncio.run(notebook()).columns


def test_a_data_set_in_parts_is_closed_part_by_part_and_open_inside(world, guard):
    @guard.dataset("applicants")
    def applicants():
        for start in range(0, 600, 200):
            yield world.frame.iloc[start : start + 200]

    assert inspect.isgeneratorfunction(applicants)
    assert all(isinstance(part, Handle) for part in applicants())
    with guard.activity(ACTIVITY):
        parts = list(applicants())
    assert [p for part in parts for p in part.columns if p == "sex"] == []
    assert sum(map(len, parts)) < len(world.consented())


def test_an_asynchronous_data_set_in_parts(world, guard):
    @guard.dataset("applicants")
    async def applicants():
        for start in range(0, 600, 300):
            await asyncio.sleep(0)
            yield world.frame.iloc[start : start + 300]

    assert inspect.isasyncgenfunction(applicants)
    assert all(isinstance(part, Handle) for part in asyncio.run(drained(applicants())))

    async def inside():
        with guard.activity(ACTIVITY):
            return await drained(applicants())

    assert all("sex" not in part.columns for part in asyncio.run(inside()))


def test_a_training_over_parts_is_audited_over_all_of_them(world, guard):
    import pandas as pd

    @guard.dataset("applicants")
    def applicants():
        yield world.frame.iloc[:300]
        yield world.frame.iloc[300:]

    guard.training(ACTIVITY)(lambda run, parts: fit(run, pd.concat(parts)))(list(applicants()))
    in_parts = world.last("training.outcome")["facts"]["fairness_n"]
    whole = guard.dataset("applicants")(lambda: world.frame)
    guard.training(ACTIVITY)(fit)(whole())
    assert in_parts == world.last("training.outcome")["facts"]["fairness_n"]


# -- training --------------------------------------------------------------------------------


def test_an_asynchronous_training(world, guard, applicants):
    @guard.training(ACTIVITY)
    async def train(run, data):
        await asyncio.sleep(0)
        return fit(run, data)

    assert inspect.iscoroutinefunction(train)
    handle, start = applicants(), world.size()
    assert asyncio.run(train(handle)) is not None
    assert world.events(start) == STEPS


def test_nothing_of_a_coroutine_runs_before_it_is_awaited(world, guard, applicants):
    @guard.training(ACTIVITY)
    async def train(run, data):
        return fit(run, data)

    handle, start = applicants(), world.size()
    train(handle).close()
    assert world.events(start) == []


def test_a_training_that_yields_its_progress_returns_its_model(world, guard, applicants):
    @guard.training(ACTIVITY)
    def train(run, data):
        yield 0.5
        yield {"epoch": 2, "loss": 0.25}
        return fit(run, data)

    handle, start = applicants(), world.size()
    items, model = drain(train(handle))
    assert items == [0.5, {"epoch": 2, "loss": 0.25}]
    assert model.predict(world.frame[FEATURES]).shape == (600,)
    assert world.events(start) == STEPS


def test_a_training_generator_may_release_its_model(world, guard, applicants):
    @guard.training(ACTIVITY)
    def train(run, data):
        yield 1
        run.release(fit(run, data))

    assert drain(train(applicants()))[1] is not None
    assert world.models() == ["000001"]


def test_an_asynchronous_training_generator_releases_its_model(world, guard, applicants):
    @guard.training(ACTIVITY)
    async def train(run, data):
        yield 1
        run.release(fit(run, data))

    handle, start = applicants(), world.size()
    assert asyncio.run(drained(train(handle))) == [1]
    assert world.events(start) == STEPS


def test_a_model_or_rows_that_are_yielded_never_reach_the_caller(world, guard, applicants):
    @guard.training(ACTIVITY)
    def train(run, data, what):
        yield fit(run, data) if what == "model" else data

    @guard.training(ACTIVITY)
    async def train_async(run, data):
        yield data

    got = []
    for what in ("model", "rows"):
        with pytest.raises(Refused, match=r"run\.release\(model\)"):
            got.extend(train(applicants(), what))
    with pytest.raises(Refused):
        got.extend(asyncio.run(drained(train_async(applicants()))))
    assert got == []
    assert world.models() == []


def test_a_generator_that_is_left_early_releases_nothing(world, guard, applicants):
    closed = []

    @guard.training(ACTIVITY)
    def train(run, data):
        try:
            yield 1
            yield 2
        finally:
            closed.append(current() is not None)
        return fit(run, data)

    running = train(applicants())
    assert next(running) == 1
    running.close()
    assert closed == [True]
    assert world.last("training.outcome")["facts"]["error"] == "GeneratorExit"
    assert world.models() == []


def test_an_asynchronous_generator_that_is_left_early_releases_nothing(world, guard, applicants):
    @guard.training(ACTIVITY)
    async def train(run, data):
        yield 1
        run.release(fit(run, data))

    async def leave():
        running = train(applicants())
        await anext(running)
        await running.aclose()

    asyncio.run(leave())
    assert world.last("training.outcome")["outcome"] == "failed"
    assert world.models() == []


def test_a_cancelled_training_is_recorded_and_releases_nothing(world, guard, applicants):
    @guard.training(ACTIVITY)
    async def train(run, data):
        await asyncio.sleep(60)

    async def cancel():
        task = asyncio.create_task(train(applicants()))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert world.last("training.outcome")["facts"]["error"] == "CancelledError"


def test_between_two_items_the_caller_is_outside_the_activity(guard, applicants):
    @guard.training(ACTIVITY)
    def train(run, data):
        yield 1
        return fit(run, data)

    running = train(applicants())
    next(running)
    assert current() is None
    assert isinstance(applicants(), Handle)
    running.close()


def test_what_is_sent_and_thrown_reaches_the_body(guard, applicants):
    @guard.training(ACTIVITY)
    def train(run, data):
        try:
            got = yield 1
            yield got + 1
        except KeyError:
            yield -1
        return fit(run, data)

    running = train(applicants())
    assert (next(running), running.send(5), running.throw(KeyError())) == (1, 6, -1)
    assert drain(running)[1] is not None


@pytest.mark.parametrize("late", ["coroutine", "generator", "async generator", "lambda"])
def test_a_plain_function_that_returns_code_still_to_run_is_refused(world, guard, applicants, late):
    async def coroutine():
        """Train later."""

    def generator():
        yield 1

    async def stream():
        yield 1

    makers = {
        "coroutine": coroutine,
        "generator": generator,
        "async generator": stream,
        "lambda": lambda: (n for n in [1]),
    }
    with pytest.raises(InputError, match="has not run yet"):
        guard.training(ACTIVITY)(lambda run, data: makers[late]())(applicants())


# -- decisions -------------------------------------------------------------------------------


def test_an_asynchronous_decision(world, guard, model, applicants):
    @guard.decision(ACTIVITY)
    async def decide(run, rows):
        await asyncio.sleep(0)
        return run.model().predict(rows[FEATURES])

    assert len(asyncio.run(decide(applicants()))) == len(world.consented())


@pytest.mark.parametrize("batch", [1, 100])
def test_decisions_one_by_one_or_in_batches_are_counted_like_all_at_once(
    world, guard, model, applicants, batch
):
    @guard.decision(ACTIVITY)
    def decide(run, rows):
        decided = run.model().predict(rows[FEATURES])
        for start in range(0, len(rows), batch):
            yield decided[start] if batch == 1 else decided[start : start + batch]

    list(decide(applicants()))
    streamed = world.last("decision.outcome")["facts"]
    guard.decision(ACTIVITY)(lambda run, rows: run.model().predict(rows[FEATURES]))(applicants())
    assert streamed == world.last("decision.outcome")["facts"]
    assert streamed["decisions"] == len(world.consented())


def test_an_asynchronous_stream_of_decisions(world, guard, model, applicants):
    @guard.decision(ACTIVITY)
    async def decide(run, rows):
        for decided in run.model().predict(rows[FEATURES]):
            yield decided

    assert len(asyncio.run(drained(decide(applicants())))) == len(world.consented())
    assert world.last("decision.outcome")["facts"]["decisions"] == len(world.consented())


def test_a_stream_gives_no_decision_before_the_sealed_model_was_asked_for(guard, model, applicants):
    @guard.decision(ACTIVITY)
    def decide(run, rows):
        yield 1

    with pytest.raises(Refused, match="sealed model"):
        next(decide(applicants()))


def test_a_stream_that_leaves_somebody_out_ends_in_an_error(guard, model, applicants):
    @guard.decision(ACTIVITY)
    def decide(run, rows):
        yield run.model().predict(rows[FEATURES])[:-1]

    with pytest.raises(InputError, match=r"decisions for \d+ rows"):
        list(decide(applicants()))
