import copy

import pytest
import torch
from dp.networks import RULE, criterion, loader, network, one_epoch, parameters, rows, same, step
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from compliance.dp.training import make_private, unwrap
from compliance.errors import BudgetExhausted, NotPrivate

# -- the ordinary loop ------------------------------------------------------------------


def test_the_ordinary_loop_trains_within_the_cap():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    private = make_private(model, optimizer, loader(2_000), RULE, epochs=2)
    model, optimizer, batches = private.model, private.optimizer, private.loader
    assert private.epsilon_spent() == 0
    for _ in range(2):
        for x, y in batches:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
    private.check(model)
    assert private.steps == private.plan.steps == 80
    assert RULE.epsilon * 0.98 < private.epsilon_spent() <= RULE.epsilon
    x, y = rows(500, seed=2)
    assert (model.eval()(x).argmax(1) == y).float().mean() > 0.85


def test_the_model_is_the_one_given_and_works_as_before(private):
    assert type(private.model) is nn.Sequential
    assert [*private.model.state_dict()] == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_a_step_beyond_the_plan_is_refused_before_the_parameters_move(private):
    one_epoch(private)
    one_epoch(private)
    before = parameters(private.model)
    with pytest.raises(BudgetExhausted, match="16 steps in 2 epochs"):
        one_epoch(private)
    assert same(before, private.model)
    assert private.steps == 16
    private.check(private.model)


def test_spending_follows_the_steps_taken(private, plan):
    one_epoch(private)
    assert private.epsilon_spent() == plan.epsilon_after(8) < plan.epsilon_after(16)


def test_a_model_that_took_no_step_spent_nothing_and_passes(private):
    private.check(private.model)
    assert private.epsilon_spent() == 0


def test_a_model_in_evaluation_mode_is_put_to_train(plan):
    model = network().eval()
    private = make_private(
        model, torch.optim.SGD(model.parameters(), lr=0.1), loader(), plan, epochs=2
    )
    assert private.model.training


def test_schedulers_and_adam_work(plan):
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    private = make_private(model, optimizer, loader(), plan, epochs=2)
    schedule = torch.optim.lr_scheduler.StepLR(private.optimizer, step_size=1, gamma=0.1)
    one_epoch(private)
    schedule.step()
    one_epoch(private)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    private.check(private.model)


def test_large_batches_can_be_worked_off_in_parts(private):
    from opacus.utils.batch_memory_manager import BatchMemoryManager

    parts = BatchMemoryManager(
        data_loader=private.loader, max_physical_batch_size=16, optimizer=private.optimizer
    )
    with parts as smaller:
        for x, y in smaller:
            assert len(x) <= 16
            step(private, x, y)
    assert private.steps == 8
    private.check(private.model)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MultiMarginLoss()])
def test_empty_batches_leave_no_nan(loss):
    """Six rows at a rate of 1/6: a third of the batches are empty."""
    x, y = rows(6)
    model = network()
    small = DataLoader(TensorDataset(x, y), batch_size=1)
    private = make_private(
        model, torch.optim.SGD(model.parameters(), lr=0.1), small, RULE, epochs=10
    )
    empty = 0
    for _ in range(10):
        for a, b in private.loader:
            empty += len(a) == 0
            private.optimizer.zero_grad()
            loss(private.model(a), b).backward()
            private.optimizer.step()
    assert empty > 0
    assert private.steps == 60
    assert all(p.isfinite().all() for p in private.model.parameters())
    private.check(private.model)


def test_empty_batches_may_be_skipped(plan):
    model = network()
    private = make_private(
        model, torch.optim.SGD(model.parameters(), lr=0.1), loader(), plan, epochs=2
    )
    for number, (x, y) in enumerate(private.loader):
        if number % 3:
            step(private, x, y)
    assert private.steps == 5


def test_a_row_of_nan_does_not_destroy_the_model(plan):
    x, y = rows(400)
    x[7] = float("nan")
    model = network()
    spoilt = DataLoader(TensorDataset(x, y), batch_size=50)
    private = make_private(
        model, torch.optim.SGD(model.parameters(), lr=0.1), spoilt, plan, epochs=2
    )
    one_epoch(private)
    one_epoch(private)
    assert all(p.isfinite().all() for p in private.model.parameters())


def test_convolutions_embeddings_and_dictionaries_work(plan):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 4)
            self.conv = nn.Conv1d(4, 3, 2)
            self.norm = nn.GroupNorm(1, 3)
            self.out = nn.Linear(6, 2)

        def forward(self, ids):
            return self.out(self.norm(self.conv(self.embed(ids).transpose(1, 2))).flatten(1))

    data = [{"ids": torch.randint(0, 5, (3,)), "label": n % 2} for n in range(400)]
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    private = make_private(model, optimizer, DataLoader(data, batch_size=50), plan, epochs=2)
    for batch in private.loader:
        private.optimizer.zero_grad()
        criterion(private.model(batch["ids"]), batch["label"]).backward()
        private.optimizer.step()
    private.check(private.model)
    assert private.steps == 8


# -- what the body may return ------------------------------------------------------------


@pytest.mark.parametrize(
    "after",
    [
        lambda model: model.eval(),
        lambda model: model.cpu(),
        lambda model: model.half(),
        lambda model: model.double(),
        lambda model: model.requires_grad_(False),
        lambda model: (model.zero_grad(), model)[1],
    ],
    ids=["eval", "cpu", "half", "double", "freeze", "zero_grad"],
)
def test_post_processing_is_no_tampering(private, after):
    one_epoch(private)
    private.check(after(private.model))


def test_going_back_to_a_snapshot_is_post_processing(private):
    one_epoch(private)
    best = copy.deepcopy(private.model.state_dict())
    one_epoch(private)
    private.model.load_state_dict(best)
    private.check(private.model)
    assert private.steps == 16


def test_a_state_that_was_tampered_with_is_no_snapshot(private):
    one_epoch(private)
    with torch.no_grad():
        private.model[0].bias += 1
    private.model.state_dict()
    with pytest.raises(NotPrivate):
        private.check(private.model)


def test_a_copy_of_the_private_model_may_be_returned(private):
    one_epoch(private)
    copied = copy.deepcopy(private.model)
    assert not private.owns(copied)
    private.check(copied)
    with torch.no_grad():
        copied[0].bias += 1
    with pytest.raises(NotPrivate, match="a copy"):
        private.check(copied)


def test_another_model_is_refused(private):
    one_epoch(private)
    with pytest.raises(NotPrivate, match="a copy"):
        private.check(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
    for other in (nn.Linear(4, 2), None, {"w": 1}):
        with pytest.raises(NotPrivate, match="not the one"):
            private.check(other)


def test_a_wrapper_with_the_private_model_inside_is_owned(private):
    class Wrapper:
        def __init__(self, module):
            self._module = module

    wrapper = Wrapper(private.model)
    assert private.owns(wrapper)
    assert unwrap(wrapper) is private.model
    assert unwrap(private.model) is private.model
    private.check(wrapper)


def test_a_diverged_model_is_still_the_private_one(plan):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=float("inf"))
    private = make_private(model, optimizer, loader(), plan, epochs=2)
    step(private, *next(iter(private.loader)))
    assert not all(p.isfinite().all() for p in model.parameters())
    private.check(model)


def test_release_returns_the_plain_module(private):
    one_epoch(private)
    before = parameters(private.model)
    plain = private.release(private.model)
    assert same(before, plain)
    assert all(p.grad is None and not p.__dict__ for p in plain.parameters())
    assert not plain._state_dict_hooks
    assert not any(module._forward_hooks for module in plain.modules())


def test_release_of_a_copy_gives_its_parameters_back(private):
    one_epoch(private)
    copied = copy.deepcopy(private.model)
    private.model.state_dict()
    assert same(parameters(copied), private.release(copied))


def test_release_checks_first(private):
    private.model[0].weight.data += 1
    with pytest.raises(NotPrivate):
        private.release(private.model)
