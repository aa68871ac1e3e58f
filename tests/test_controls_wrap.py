"""Whatever kind of function is wrapped stays what it is, and its call is active in its body alone."""

import asyncio
import contextlib
import inspect
import pickle
import threading
import time

import pytest
from spies import KINDS, Harness, body_of

from compliance import controls
from compliance.controls import Phase, Pipeline, current, outcome_of
from compliance.errors import InputError


@pytest.fixture
def harness():
    return Harness()


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


# -- what is wrapped stays what it is ----------------------------------------------------------


def test_each_kind_is_wrapped_as_what_it_is(harness):
    tests = {
        "plain": lambda f: (
            not any(
                test(f)
                for test in (
                    inspect.iscoroutinefunction,
                    inspect.isgeneratorfunction,
                    inspect.isasyncgenfunction,
                )
            )
        ),
        "coroutine": inspect.iscoroutinefunction,
        "generator": inspect.isgeneratorfunction,
        "async generator": inspect.isasyncgenfunction,
    }
    for kind, test in tests.items():
        function, _ = body_of(kind, [])
        assert [name for name, other in tests.items() if other(harness(function))] == [kind]
        assert test(harness(function))


def test_each_result_and_each_item_is_delivered(harness, kind):
    function, run = body_of(kind, [])
    wanted = ("delivered", 1)
    assert run(harness(function)) == (wanted if kind in {"plain", "coroutine"} else [wanted])


def decorated(a: int, *, b: str = "x") -> str:
    """Say what it does."""
    return f"{a}{b}"


decorated = Harness()(decorated)


def test_signature_and_documentation_survive():
    assert str(inspect.signature(decorated)) == "(a: int, *, b: str = 'x') -> str"
    assert (decorated.__doc__, decorated.__name__) == ("Say what it does.", "decorated")
    assert decorated(1, b="y") == ("delivered", "1y")


def test_a_wrapper_pickles_by_its_name():
    assert pickle.loads(pickle.dumps(decorated)) is decorated


def test_nothing_runs_before_the_first_step(harness):
    for kind in KINDS[1:]:
        function, _ = body_of(kind, harness.log)
        made = harness(function)()
        if kind == "coroutine":
            made.close()
    assert harness.log == []


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_plain_function_that_returns_unrun_code_is_refused(harness, kind):
    """The code would run after the controls are through; a lambda hides what it makes."""
    function, _ = body_of(kind, harness.log)
    with pytest.raises(InputError, match="has not run yet"):
        harness(lambda: function())()  # noqa: PLW0108
    assert Phase.BODY not in harness.log
    assert outcome_of(harness.call) == "refused"


# -- generators --------------------------------------------------------------------------------


def test_a_generator_that_is_closed_early_is_closed_inside_and_recorded(harness):
    closed = []

    def numbers():
        try:
            yield from range(9)
        finally:
            closed.append(current())

    items = harness(numbers)()
    assert next(items) == ("delivered", 0)
    items.close()
    assert closed == [harness.call]
    assert harness.log[-1] is Phase.RECORD_OUTCOME
    assert Phase.SEAL not in harness.log
    assert isinstance(harness.call.error, GeneratorExit)


def test_an_async_generator_that_is_closed_early_is_closed_inside_and_recorded(harness):
    closed = []

    async def numbers():
        try:
            for number in range(9):
                yield number
        finally:
            await asyncio.sleep(0)
            closed.append(current())

    async def run():
        items = harness(numbers)()
        assert await anext(items) == ("delivered", 0)
        await items.aclose()

    asyncio.run(run())
    assert closed == [harness.call]
    assert harness.log[-1] is Phase.RECORD_OUTCOME
    assert Phase.SEAL not in harness.log


def test_what_is_sent_and_thrown_in_reaches_the_body_and_its_answer_comes_out(harness):
    def echo():
        heard = yield "ready"
        try:
            yield heard
        except ValueError as error:
            yield f"caught {error}"
        return "end"

    items = harness(echo)()
    assert next(items) == ("delivered", "ready")
    assert items.send("hello") == ("delivered", "hello")
    assert items.throw(ValueError("x")) == ("delivered", "caught x")
    with pytest.raises(StopIteration) as stop:
        next(items)
    assert stop.value.value == "end"
    assert harness.log[-1] is Phase.RECORD_OUTCOME
    assert harness.call.error is None


def test_what_is_sent_and_thrown_into_an_async_generator_reaches_the_body(harness):
    async def echo():
        heard = yield "ready"
        try:
            yield heard
        except ValueError as error:
            yield f"caught {error}"

    async def run():
        items = harness(echo)()
        return [
            await anext(items),
            await items.asend("hello"),
            await items.athrow(ValueError("x")),
            await anext(items, "end"),
        ]

    said = asyncio.run(run())
    assert said == [
        ("delivered", "ready"),
        ("delivered", "hello"),
        ("delivered", "caught x"),
        "end",
    ]
    assert harness.call.error is None


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_an_exception_thrown_in_that_the_body_lets_pass_is_recorded(harness, kind):
    function, _ = body_of(kind, [])
    items = harness(function)()

    async def throw():
        if kind == "generator":
            next(items)
            items.throw(ValueError("x"))
        else:
            await anext(items)
            await items.athrow(ValueError("x"))

    with pytest.raises(ValueError, match="x"):
        asyncio.run(throw())
    assert harness.log[-1] is Phase.RECORD_OUTCOME
    assert outcome_of(harness.call) == "failed"


def test_a_cancelled_coroutine_is_recorded(harness):
    async def forever():
        await asyncio.sleep(60)

    async def run():
        task = asyncio.create_task(harness(forever)())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert harness.log[-1] is Phase.RECORD_OUTCOME
    assert isinstance(harness.call.error, asyncio.CancelledError)


# -- what is running here ---------------------------------------------------------------------------


def test_the_call_is_active_in_the_body_and_nowhere_else(harness):
    seen = []

    class Look:
        phase = Phase.AUDIT

        def __call__(self, call):
            seen.append(current())

    harness.pipeline = Pipeline([Look()])
    assert harness(current)() == ("delivered", harness.call)
    assert (seen, current()) == ([None], None)


def test_a_data_sets_loader_is_no_activity():
    outer, inner = Harness(), Harness(kind="dataset")
    loader = inner(current)
    _, (_, seen) = outer(loader)()
    assert seen is None


def test_calls_nest_and_come_back(harness):
    def outer():
        before = current()
        _, inner = harness(current)()
        return before is harness.calls[0], inner is harness.calls[1], current() is before

    assert harness(outer)() == ("delivered", (True, True, True))


def test_outside_hides_the_call_for_a_while(harness):
    def body():
        with controls.outside():
            hidden = current()
        return hidden, current()

    assert harness(body)() == ("delivered", (None, harness.call))


def test_between_the_items_of_a_generator_the_caller_runs_and_not_we(harness):
    def numbers():
        yield current()
        yield current()

    one, other = harness(numbers)(), harness(numbers)()
    seen = []
    for (_, first), (_, second) in zip(one, other, strict=True):
        seen.append((first, second, current()))
    first, second = harness.calls
    assert seen == [(first, second, None)] * 2


def test_between_the_items_of_an_async_generator_too(harness):
    async def numbers():
        yield current()
        await asyncio.sleep(0)
        yield current()

    async def run():
        one, other = harness(numbers)(), harness(numbers)()
        return (
            [((await anext(one))[1], (await anext(other))[1], current()) for _ in range(2)],
            await anext(one, None),
            await anext(other, None),
        )

    seen, *_ = asyncio.run(run())
    first, second = harness.calls
    assert seen == [(first, second, None)] * 2


def test_threads_and_tasks_see_their_own_call_alone(harness):
    def body():
        mine = current()
        time.sleep(0.01)
        return current() is mine

    async def async_body():
        mine = current()
        await asyncio.sleep(0.01)
        return current() is mine

    async def run():
        return await asyncio.gather(*(harness(async_body)() for _ in range(8)))

    results = []
    wrapped = harness(body)
    threads = [threading.Thread(target=lambda: results.append(wrapped())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [("delivered", True)] * 8
    assert asyncio.run(run()) == [("delivered", True)] * 8
    assert current() is None


def test_a_call_that_raised_is_active_no_longer(harness, kind):
    function, run = body_of(kind, [], ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        run(harness(function))
    assert current() is None
