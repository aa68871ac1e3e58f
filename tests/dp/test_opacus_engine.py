import warnings

import pytest
import torch
from torch import nn

from compliance.dp.noise import Source
from compliance.dp.opacus_engine import PrivateOptimizer, attach, detach
from compliance.dp.plan import PrivacyPlan
from compliance.errors import NotPrivate

PLAN = PrivacyPlan(
    epsilon=1.0,
    delta=1e-5,
    max_grad_norm=0.5,
    noise_multiplier=2.0,
    sample_rate=0.5,
    steps=2,
    epochs=1,
    batch=4.0,
)


class Silent(Source):
    """No noise, so that what is left can be compared."""

    def noise_like(self, reference, deviation):
        return torch.zeros_like(reference)


class Agreeable:
    def __init__(self):
        self.rows = []

    def may_step(self, optimizer):
        pass

    def stepping(self, rows):
        self.rows.append(rows)


def small():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def stepped(model, x, y, source):
    """Return the gradients that one private step of plain SGD used, by parameter."""
    hooks = attach(model)
    watcher = Agreeable()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = PrivateOptimizer(torch.optim.SGD(model.parameters(), lr=1.0), PLAN, source, watcher)
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    assert watcher.rows == [len(x)]
    detach(hooks, model)
    return [old - new.detach() for old, new in zip(before, model.parameters(), strict=True)]


def by_hand(model, x, y):
    """Clip each row's gradient in a loop, add, divide by the expected batch."""
    total = [torch.zeros_like(p) for p in model.parameters()]
    for row, label in zip(x, y, strict=True):
        loss = nn.functional.cross_entropy(model(row[None]), label[None])
        gradient = torch.autograd.grad(loss, [*model.parameters()])
        norm = torch.sqrt(sum((g**2).sum() for g in gradient))
        scale = min(1.0, PLAN.max_grad_norm / float(norm))
        total = [t + scale * g for t, g in zip(total, gradient, strict=True)]
    return [t / PLAN.batch for t in total]


def test_a_step_is_the_sum_of_clipped_gradients_over_the_expected_batch():
    x, y = torch.randn(7, 3) * 5, torch.randint(0, 2, (7,))
    expected = by_hand(small(), x, y)
    for found, wanted in zip(stepped(small(), x, y, Silent()), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("size", [10.0, 1e30])
def test_no_row_moves_the_model_further_than_the_clipping_norm(size):
    x, y = torch.randn(5, 3), torch.randint(0, 2, (5,))
    outlier = torch.cat([x, torch.full((1, 3), size)]), torch.cat([y, torch.tensor([1])])
    with_it, without = stepped(small(), *outlier, Silent()), stepped(small(), x, y, Silent())
    distance = torch.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(with_it, without, strict=True)))
    assert float(distance) * PLAN.batch <= PLAN.max_grad_norm * (1 + 1e-4)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_row_whose_gradient_is_no_number_is_left_out(poison):
    x, y = torch.randn(5, 3), torch.randint(0, 2, (5,))
    poisoned = torch.cat([x, torch.full((1, 3), poison)]), torch.cat([y, torch.tensor([1])])
    with_it, without = stepped(small(), *poisoned, Silent()), stepped(small(), x, y, Silent())
    for a, b in zip(with_it, without, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_noise_has_the_deviation_of_the_plan():
    model = nn.Linear(400, 200, bias=False)
    moved = stepped(model, torch.zeros(1, 400), torch.tensor([0]), Source())[0] * PLAN.batch
    assert float(moved.std()) == pytest.approx(PLAN.noise_multiplier * PLAN.max_grad_norm, rel=0.02)


def test_an_empty_batch_is_a_step_of_noise_alone():
    model = small()
    moved = stepped(model, torch.empty(0, 3), torch.empty(0, dtype=torch.long), Source())
    assert all(m.isfinite().all() and m.abs().max() > 0 for m in moved)


def test_modules_that_work_in_place_no_longer_do_and_give_the_same():
    x, y = torch.randn(6, 3), torch.randint(0, 2, (6,))
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    expected = by_hand(model, x, y)
    for found, wanted in zip(stepped(model, x, y, Silent()), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)


def test_a_second_step_on_the_same_gradients_is_refused():
    model = small()
    attach(model)
    optimizer = PrivateOptimizer(
        torch.optim.SGD(model.parameters(), lr=1.0), PLAN, Source(), Agreeable()
    )
    nn.functional.cross_entropy(model(torch.randn(3, 3)), torch.tensor([0, 1, 0])).backward()
    optimizer.step()
    with pytest.raises(ValueError, match="zero_grad"):
        optimizer.step()


def test_gradients_of_two_batches_do_not_add_up():
    model = small()
    attach(model)
    nn.functional.cross_entropy(model(torch.randn(3, 3)), torch.tensor([0, 1, 0])).backward()
    with pytest.raises(ValueError, match="accumulation"):
        nn.functional.cross_entropy(model(torch.randn(3, 3)), torch.tensor([0, 1, 0])).backward()


def test_batch_statistics_are_refused_by_name_and_with_the_mend():
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1d(4)), nn.Linear(4, 2))
    with pytest.raises(NotPrivate, match=r"'1\.0' is a BatchNorm1d.*ModuleValidator\.fix"):
        attach(model)


def test_a_subclass_of_batchnorm_is_refused_too():
    class Mine(nn.BatchNorm1d):
        pass

    with pytest.raises(NotPrivate, match="Mine"):
        attach(nn.Sequential(nn.Linear(3, 4), Mine(4)))


def test_a_frozen_batchnorm_that_uses_its_averages_is_accepted():
    norm = nn.BatchNorm1d(3).eval().requires_grad_(False)
    attach(nn.Sequential(norm, nn.Linear(3, 2)))
    with pytest.raises(NotPrivate, match="BatchNorm1d"):
        attach(nn.Sequential(nn.BatchNorm1d(3).requires_grad_(False), nn.Linear(3, 2)))


@pytest.mark.parametrize("module", [nn.LSTM(3, 4), nn.MultiheadAttention(4, 2)])
def test_modules_that_opacus_must_replace_are_refused_by_name(module):
    with pytest.raises(NotPrivate, match=type(module).__name__):
        attach(nn.ModuleDict({"inner": module}))


def test_a_trainable_module_with_buffers_is_refused():
    class Counting(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.register_buffer("seen", torch.zeros(1))

    with pytest.raises(NotPrivate, match="buffers"):
        attach(Counting())


def test_hooks_go_on_once():
    model = small()
    attach(model)
    with pytest.raises(NotPrivate, match="once"):
        attach(model)


def test_detaching_leaves_nothing_of_the_rows_behind():
    model = small()
    hooks = attach(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Full backward hook")
        nn.functional.cross_entropy(model(torch.randn(3, 3)), torch.tensor([0, 1, 0])).backward()
    model(torch.randn(3, 3))  # a forward pass whose activations nothing consumed
    detach(hooks, model)
    assert all(p.grad is None and not p.__dict__ for p in model.parameters())
    for module in model.modules():
        assert (
            not {"activations", "max_batch_len", "autograd_grad_sample_hooks"}
            & module.__dict__.keys()
        )
        assert not module._forward_hooks
        assert not module._backward_hooks
