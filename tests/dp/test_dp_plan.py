import dataclasses
import subprocess
import sys

import pytest

from compliance.dp.plan import PrivacyPlan
from compliance.errors import InputError, NotPrivate
from compliance.policy import Privacy

RULE = Privacy(budget="b", epsilon=1.0, delta=1e-5, max_grad_norm=0.7)


@pytest.fixture(scope="module")
def plan():
    return PrivacyPlan.make(RULE, rows=1_000, batch_size=64, epochs=2)


def test_a_plan_holds_everything_that_must_agree(plan):
    assert (plan.epsilon, plan.delta, plan.max_grad_norm) == (1.0, 1e-5, 0.7)
    assert (plan.batch, plan.sample_rate) == (64.0, 0.064)
    assert (plan.steps_per_epoch, plan.steps, plan.epochs) == (16, 32, 2)
    assert (plan.unit, plan.sampler, plan.neighbouring) == ("row", "Poisson", "add/remove one")
    assert plan.accountant == "PLD"


def test_all_steps_together_keep_the_cap_and_fewer_spend_less(plan):
    costs = [plan.epsilon_after(steps) for steps in (0, 1, 16, 31, 32)]
    assert costs[0] == 0
    assert costs == sorted(costs)
    assert 0.99 < costs[-1] <= plan.epsilon


def test_a_batch_larger_than_the_data_takes_every_row():
    plan = PrivacyPlan.make(RULE, rows=10, batch_size=64, epochs=3)
    assert (plan.batch, plan.sample_rate, plan.steps) == (10.0, 1.0, 3)


def test_a_plan_cannot_be_changed(plan):
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.noise_multiplier = 0.0


@pytest.mark.parametrize(
    "wrong", [{"rows": 0}, {"batch_size": 0}, {"epochs": 0}, {"epochs": 1.5}, {"rows": True}]
)
def test_counts_must_be_whole_and_positive(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        PrivacyPlan.make(RULE, **({"rows": 10, "batch_size": 2, "epochs": 1} | wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise_multiplier": 0.0},
        {"noise_multiplier": float("nan")},
        {"delta": 1.0},
        {"sample_rate": 1.5},
        {"steps": 31},
        {"steps": 0},
        {"epochs": 0},
    ],
)
def test_a_plan_out_of_range_cannot_be_made(plan, wrong):
    with pytest.raises(InputError):
        dataclasses.replace(plan, **wrong)


def test_more_steps_than_planned_have_no_figure(plan):
    with pytest.raises(InputError, match="32 steps"):
        plan.epsilon_after(33)


def test_a_plan_with_too_little_noise_does_not_verify(plan):
    plan.verify()
    with pytest.raises(NotPrivate, match="claims epsilon 1 "):
        dataclasses.replace(plan, noise_multiplier=plan.noise_multiplier / 2).verify()


def test_the_plan_module_imports_neither_torch_nor_the_accountants():
    script = "import sys, compliance.dp.plan; print({'torch', 'opacus', 'dp_accounting', 'sqlmodel'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
