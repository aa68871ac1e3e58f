"""Controls, phases and the call: one wrapper runs every control in phase order.

A decorator registers controls; the order in which it does so does not matter, the
phase does. Whatever happens, an intent is followed by exactly one outcome, unless
the process is killed: then the intent stands alone and says so.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

from compliance.errors import ComplianceError, InputError
from compliance.findings import Outcome, Scalar
from compliance.frames import Frame
from compliance.policy import Activity, Policy


class Phase(IntEnum):
    """When a control runs; the numbers are the order."""

    RECORD_INTENT = 1
    AUTHORISE = 2
    CONSENT = 3
    MINIMISE = 4
    UNSEAL = 5
    HOLD_BACK = 6
    SCAN = 7
    RECORD_OPENED = 8
    RESERVE = 9
    BODY = 10
    AUDIT = 11
    SETTLE = 12
    SEAL = 13
    RECORD_OUTCOME = 14


DATA = (
    Phase.CONSENT,
    Phase.MINIMISE,
    Phase.UNSEAL,
    Phase.HOLD_BACK,
    Phase.SCAN,
    Phase.RECORD_OPENED,
)
_BEFORE = (Phase.RECORD_INTENT, Phase.AUTHORISE, *DATA, Phase.RESERVE)


class Actor(Protocol):
    """Who acts; see `compliance.access.identity.Identity`."""

    @property
    def actor(self) -> str:
        """Return the one who really acts."""

    @property
    def method(self) -> Any:
        """Return how that is known."""

    @property
    def account(self) -> str:
        """Return the operating-system account."""

    @property
    def on_behalf_of(self) -> str | None:
        """Return the principal whose rights are used instead."""


@dataclass(slots=True)
class Opening:
    """One data set on its way into a body.

    Attributes:
        dataset: the registered name; empty where the policy lets unregistered data in.
        frame: what the body will see, narrowed by each control.
        subjects: the subject of each row of ``frame``, kept also when the column is dropped.
        held: what the guard keeps for the audit: rows, label and ``audit_only`` columns.
        held_keys: the subject of each row of ``held``, or its content, as a hash.
        audits: true for a data set that serves the audit only and is never shown to the body.
        facts: counts for the trail.
    """

    dataset: str
    frame: Frame
    subjects: list[Any] | None = None
    held: Frame | None = None
    held_keys: list[str] = field(default_factory=list)
    audits: bool = False
    facts: dict[str, Scalar] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """One run of a wrapped function: what the controls know and what they found.

    Attributes:
        kind: ``dataset``, ``training``, ``decision`` or ``activity``.
        name: the data set or activity.
        fresh: the openings that the data phases have not passed yet.
        openings: those that they have.
        predictor: how the guard asks the result for predictions.
        intent: the trail's index of this call's intent.
        run: what the body holds in its hand; data sets called inside the body open through it.
        closed: true once the body is over; from then on nothing is opened for it.
        private: the record of differentially private training, once the body asked for it.
        result: what the body returned; controls may replace or withhold it.
        yielded: the decisions that a generator gave so far.
        facts: counts for the trail's outcome entry.
    """

    kind: str
    name: str
    policy: Policy
    identity: Actor
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    fresh: list[Opening] = field(default_factory=list)
    openings: list[Opening] = field(default_factory=list)
    predictor: Callable[[Any], Any] | None = None
    private: Any = None
    intent: int = -1
    run: Any = None
    closed: bool = False
    reservation: Any = None
    model: Any = None
    result: Any = None
    yielded: list[Any] = field(default_factory=list)
    error: BaseException | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    facts: dict[str, Scalar] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def activity(self) -> Activity:
        """Return the norms of the activity."""
        return self.policy.activity(self.name)

    @property
    def purpose(self) -> str | None:
        """Return the purpose; a data set read outside an activity has none."""
        return None if self.kind == "dataset" else self.activity.purpose


class Control(Protocol):
    """A check or a transformation at one phase; it refuses by raising."""

    @property
    def phase(self) -> Phase:
        """Return when it runs."""

    def __call__(self, call: Call) -> None:
        """Act on the call."""


class Pipeline:
    """The controls of one wrapped function, run in phase order."""

    def __init__(self, controls: Sequence[Control]) -> None:
        self._controls = sorted(controls, key=lambda control: control.phase)

    def run(self, call: Call, *phases: Phase) -> None:
        """Run the controls of these phases, in order."""
        for control in self._controls:
            if control.phase in phases:
                control(call)

    def open(self, call: Call, opening: Opening) -> None:
        """Take one more data set through the data phases, inside a running body.

        ``call.fresh`` belongs to one opening at a time: two threads of one body take turns,
        or the rows of one would pass while the controls look at the other.
        """
        with call.lock:
            call.fresh = [opening]
            self._data(call, DATA)

    def _data(self, call: Call, phases: Sequence[Phase]) -> None:
        self.run(call, *phases)
        call.openings.extend(call.fresh)
        call.fresh = []

    @contextlib.contextmanager
    def around(self, call: Call) -> Iterator[None]:
        """Run what comes before the body, then the body, then what comes after it.

        A control that refuses before the body keeps the body from running. After the
        body a failed audit still settles the budget, and the outcome is always recorded;
        where it cannot be, that error replaces the result.
        """
        self.run(call, Phase.RECORD_INTENT)
        try:
            self.run(call, Phase.AUTHORISE)
            self._data(call, DATA)
            self.run(call, Phase.RESERVE)
            yield
            self._after(call)
        except BaseException as error:
            call.error = error
            call.result = None
            raise
        finally:
            call.closed = True
            self.run(call, Phase.RECORD_OUTCOME)

    def _after(self, call: Call) -> None:
        call.closed = True
        try:
            self.run(call, Phase.AUDIT)
        finally:
            self.run(call, Phase.SETTLE)
        self.run(call, Phase.SEAL)


_ACTIVE: ContextVar[Call | None] = ContextVar("compliance_call", default=None)


def current() -> Call | None:
    """Return the activity that is running here, if any."""
    return _ACTIVE.get()


@contextlib.contextmanager
def active(call: Call) -> Iterator[None]:
    """Mark a call as the one that is running here; a data set's own loader is no activity."""
    token = _ACTIVE.set(None if call.kind == "dataset" else call)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Run something as if no activity were running here."""
    token = _ACTIVE.set(None)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def outcome_of(call: Call) -> str:
    """Return ``ok``, ``refused`` (a control said no) or ``failed`` (the body raised)."""
    if call.error is None:
        return "ok"
    return "refused" if isinstance(call.error, ComplianceError) else "failed"


Prepare = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Call, Pipeline]]
Arguments = Callable[
    [Call, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]
]


def wrap(
    function: Callable[..., Any],
    prepare: Prepare,
    arguments: Arguments,
    deliver: Callable[[Call, Any], Any],
) -> Callable[..., Any]:
    """Return a function of the same kind that runs inside its pipeline.

    Args:
        function: plain, coroutine, generator or async generator function.
        prepare: makes the call and its pipeline from the caller's arguments.
        arguments: returns what the body gets, once the data phases have run.
        deliver: turns the result, or each item of a generator, into what the caller gets.
    """
    makers = (
        (inspect.isasyncgenfunction, _async_generator),
        (inspect.iscoroutinefunction, _coroutine),
        (inspect.isgeneratorfunction, _generator),
    )
    make = next((make for test, make in makers if test(function)), _plain)
    return functools.wraps(function)(make(function, prepare, arguments, deliver))


def _plain(function: Any, prepare: Prepare, arguments: Arguments, deliver: Any) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call, pipeline = prepare(args, kwargs)
        with pipeline.around(call), active(call):
            args, kwargs = arguments(call, args, kwargs)
            call.result = _finished(function(*args, **kwargs))
        return deliver(call, call.result)

    return wrapper


def _finished(result: Any) -> Any:
    """Refuse a result whose code is still to run: it would run after the controls are through."""
    unfinished = (inspect.isawaitable, inspect.isgenerator, inspect.isasyncgen)
    if not any(test(result) for test in unfinished):
        return result
    if hasattr(result, "close"):
        result.close()
    raise InputError(
        f"the function returned a {type(result).__name__} that has not run yet; decorate the "
        "coroutine or generator function itself, or return what it yields"
    )


def _coroutine(function: Any, prepare: Prepare, arguments: Arguments, deliver: Any) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call, pipeline = prepare(args, kwargs)
        with pipeline.around(call), active(call):
            args, kwargs = arguments(call, args, kwargs)
            call.result = await function(*args, **kwargs)
        return deliver(call, call.result)

    return wrapper


def _generator(function: Any, prepare: Prepare, arguments: Arguments, deliver: Any) -> Any:
    """Mark the activity as running for each step only: between items the caller runs, not we."""

    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call, pipeline = prepare(args, kwargs)
        with pipeline.around(call):
            args, kwargs = arguments(call, args, kwargs)
            result = yield from _steps(call, function(*args, **kwargs), deliver)
            call.result = call.result if result is None else result
        return call.result

    return wrapper


def _steps(call: Call, body: Any, deliver: Any) -> Generator[Any, Any, Any]:
    """Pass on what the caller sends and throws; an early close closes the body."""
    step = functools.partial(next, body)
    try:
        while True:
            try:
                with active(call):
                    item = step()
            except StopIteration as stop:
                return stop.value
            item = deliver(call, item)
            try:
                step = functools.partial(body.send, (yield item))
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001  it is the body's to answer
                step = functools.partial(body.throw, error)
    finally:
        with active(call):
            body.close()


def _async_generator(function: Any, prepare: Prepare, arguments: Arguments, deliver: Any) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call, pipeline = prepare(args, kwargs)
        with pipeline.around(call):
            args, kwargs = arguments(call, args, kwargs)
            body = function(*args, **kwargs)
            step = functools.partial(anext, body)
            try:
                while True:
                    try:
                        with active(call):
                            item = await step()
                    except StopAsyncIteration:
                        break
                    item = deliver(call, item)
                    try:
                        step = functools.partial(body.asend, (yield item))
                    except GeneratorExit:
                        raise
                    except BaseException as error:  # noqa: BLE001  it is the body's to answer
                        step = functools.partial(body.athrow, error)
            finally:
                with active(call):
                    await body.aclose()

    return wrapper
