"""Story 1 in threads, tasks and nested runs: each run keeps to itself."""

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

from world import ACTIVITY, fit

from compliance.controls import current
from compliance.handle import Handle

STEPS = ["training.intent", "training.opened", "training.sealed", "training.outcome"]


def test_a_bare_thread_of_the_body_gets_a_closed_handle_and_opens_it_by_the_run(guard, applicants):
    got = {}

    def work(run):
        got["outside"] = applicants()
        got["opened"] = run.open(got["outside"])

    with guard.activity(ACTIVITY) as run:
        thread = threading.Thread(target=work, args=(run,))
        thread.start()
        thread.join()
    assert isinstance(got["outside"], Handle)
    assert "sex" not in got["opened"].columns


def test_many_threads_open_for_one_run_without_mixing(world, guard, applicants):
    with guard.activity(ACTIVITY) as run, ThreadPoolExecutor(4) as pool:
        handles = [applicants() for _ in range(2)] + [
            guard.dataset("applicants")(lambda: world.frame) for _ in range(2)
        ]
        handles = [contextvars.Context().run(h) if callable(h) else h for h in handles]
        frames = list(pool.map(run.open, handles))
    assert len({tuple(f["customer_id"]) for f in frames}) == 1
    assert world.events().count("activity.opened") == 4


def test_trainings_in_threads_are_runs_of_their_own(world, guard, applicants):
    train, handle = guard.training(ACTIVITY)(fit), applicants()
    with ThreadPoolExecutor(3) as pool:
        models = list(pool.map(lambda _: train(handle), range(3)))
    assert len(models) == 3
    assert world.models() == ["000001", "000002", "000003"]
    assert len({e["call"] for e in world.entries() if e["event"] == "training.intent"}) == 3
    assert world.verified()


def test_tasks_of_one_loop_do_not_share_an_activity(guard, applicants):
    async def inside(entered, leave):
        with guard.activity(ACTIVITY):
            entered.set()
            await leave.wait()

    async def main():
        entered, leave = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(inside(entered, leave))
        await entered.wait()
        seen = applicants()
        leave.set()
        await task
        return seen

    assert isinstance(asyncio.run(main()), Handle)


def test_a_task_that_outlives_its_run_gets_a_closed_handle(guard, applicants):
    async def later(ended):
        await ended.wait()
        return applicants()

    async def main():
        ended = asyncio.Event()
        with guard.activity(ACTIVITY):
            task = asyncio.create_task(later(ended))
            await asyncio.sleep(0)
        ended.set()
        return await task

    assert isinstance(asyncio.run(main()), Handle)


def test_a_training_inside_a_training_is_a_run_of_its_own(world, guard, applicants):
    handle, inner = applicants(), guard.training(ACTIVITY)(fit)

    def outer(run, data):
        inner(handle)
        assert current() is run._call
        return fit(run, data)

    guard.training(ACTIVITY)(outer)(handle)
    assert world.models() == ["000001", "000002"]
    events = [e["event"] for e in world.entries() if e["activity"] == ACTIVITY and e["call"]]
    assert events == STEPS[:2] + STEPS + STEPS[2:]
