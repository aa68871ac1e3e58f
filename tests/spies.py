"""Controls that write down that they ran, and functions of every kind to wrap in them."""

import asyncio
import random

from compliance.controls import Call, Phase, Pipeline, wrap
from compliance.policy import Activity, Policy

POLICY = Policy(activities={"scoring": Activity(purpose="lending", datasets=())})


class Spy:
    """A control that writes down that it ran, and may refuse."""

    def __init__(self, phase, log, error=None):
        self.phase, self.log, self.error = phase, log, error

    def __call__(self, call):
        self.log.append(self.phase)
        if self.error is not None:
            raise self.error


class Harness:
    """Wraps functions in a pipeline of spies and keeps the calls it made."""

    def __init__(self, refuse=None, kind="training"):
        self.log, self.calls = [], []
        phases = [phase for phase in Phase if phase is not Phase.BODY]
        random.Random(7).shuffle(phases)
        refuse = refuse or {}
        self.pipeline = Pipeline([Spy(p, self.log, refuse.get(p)) for p in phases])
        self.kind = kind

    def __call__(self, function):
        return wrap(function, self.prepare, lambda _call, a, k: (a, k), self.deliver)

    def prepare(self, _args, _kwargs):
        call = Call(self.kind, "scoring", POLICY, None)
        self.calls.append(call)
        return call, self.pipeline

    def deliver(self, _call, item):
        return ("delivered", item)

    @property
    def call(self):
        return self.calls[-1]


def body_of(kind, log, error=None):
    """Return a function of a kind that logs its body, and a way to run it to the end."""

    def step():
        log.append(Phase.BODY)
        if error is not None:
            raise error

    def plain():
        step()
        return 1

    async def coroutine():
        step()
        return 1

    def generator():
        step()
        yield 1

    async def async_generator():
        step()
        yield 1

    async def drain(function):
        return [item async for item in function()]

    runners = {
        "plain": (plain, lambda f: f()),
        "coroutine": (coroutine, lambda f: asyncio.run(f())),
        "generator": (generator, lambda f: list(f())),
        "async generator": (async_generator, lambda f: asyncio.run(drain(f))),
    }
    return runners[kind]


KINDS = ["plain", "coroutine", "generator", "async generator"]
