import copy
import sys
import time

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from compliance.dp import training
from compliance.dp.plan import PrivacyPlan
from compliance.dp.training import make_private, unwrap
from compliance.errors import BudgetExhausted, InputError, MissingExtra, NotPrivate
from compliance.policy import Privacy

RULE = Privacy(budget="b", epsilon=4.0, delta=1e-5)
criterion = nn.CrossEntropyLoss()


def rows(count=400, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=generator)
    return x, (x.sum(1) > 0).long()


def loader(count=400, batch_size=50, **options):
    return DataLoader(TensorDataset(*rows(count)), batch_size=batch_size, shuffle=True, **options)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))


@pytest.fixture(scope="module")
def plan():
    return PrivacyPlan.make(RULE, rows=400, batch_size=50, epochs=2)


@pytest.fixture
def private(plan):
    """A training of 2 epochs of 8 steps; the plan is shared, since finding noise takes time."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)
    return make_private(model, optimizer, loader(), plan, epochs=2)


def step(private, x, y):
    private.optimizer.zero_grad()
    loss = criterion(private.model(x), y)
    loss.backward()
    private.optimizer.step()


def one_epoch(private, batches=None):
    for x, y in batches or private.loader:
        step(private, x, y)


def parameters(model):
    return [p.detach().clone() for p in model.parameters()]


def same(before, model):
    return all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


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


# -- what makes it not private -------------------------------------------------------------


def test_the_optimizer_that_was_given_may_not_step(private):
    before = parameters(private.model)
    x, y = next(iter(private.loader))
    criterion(private.model(x), y).backward()
    with pytest.raises(NotPrivate, match="not the one given"):
        private.optimizer.original_optimizer.step()
    assert same(before, private.model)


def test_another_optimizer_is_found_at_the_end(private):
    one_epoch(private)
    other = torch.optim.SGD(private.model.parameters(), lr=0.1)
    other.step()
    with pytest.raises(NotPrivate, match="something else than the private optimizer"):
        private.check(private.model)


def test_another_optimizer_is_found_before_the_next_step(private):
    batches = iter(private.loader)
    step(private, *next(batches))
    torch.optim.SGD(private.model.parameters(), lr=0.1).step()
    with pytest.raises(NotPrivate, match="between two private steps"):
        step(private, *next(batches))
    assert private.steps == 1


def test_a_change_that_torch_does_not_count_is_found(private):
    private.model[0].weight.data[0, 0] += 1e-6
    with pytest.raises(NotPrivate, match=r"0\.weight"):
        private.check(private.model)


def test_a_frozen_parameter_or_buffer_that_learns_is_found(plan):
    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(4))

        def forward(self, x):
            if self.training:
                self.mean += x.detach().mean(0)
            return x - self.mean

    model = nn.Sequential(Centred(), nn.Linear(4, 2))
    private = make_private(
        model, torch.optim.SGD(model.parameters(), lr=0.1), loader(), plan, epochs=2
    )
    with pytest.raises(NotPrivate, match=r"'0\.mean'.*learns from the rows"):
        one_epoch(private)


def test_the_loader_that_was_given_may_not_be_used(plan):
    model = network()
    shuffled = loader()
    private = make_private(
        model, torch.optim.SGD(model.parameters(), lr=0.1), shuffled, plan, epochs=2
    )
    before = parameters(model)
    with pytest.raises(NotPrivate, match="not drawn by the loader"):
        one_epoch(private, shuffled)
    assert same(before, model)
    assert private.steps == 0


def test_a_batch_may_not_be_used_twice(private):
    x, y = next(iter(private.loader))
    step(private, x, y)
    with pytest.raises(NotPrivate, match="used twice"):
        step(private, x, y)


def test_a_row_may_not_enter_a_batch_twice(private):
    x, y = next(iter(private.loader))
    with pytest.raises(NotPrivate, match="not drawn"):
        step(private, torch.cat([x, x]), torch.cat([y, y]))


@pytest.mark.parametrize("name", ["noise_multiplier", "max_grad_norm", "expected_batch_size"])
def test_the_private_optimizer_may_not_be_changed(private, name):
    setattr(private.optimizer, name, 1e-3)
    with pytest.raises(NotPrivate, match="was changed after"):
        one_epoch(private)
    assert private.steps == 0


def test_a_parameter_that_forward_does_not_use_is_named(plan):
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = nn.Linear(4, 2)
            self.idle = nn.Linear(4, 2)

        def forward(self, x):
            return self.used(x)

    model = Idle()
    private = make_private(
        model, torch.optim.SGD(model.parameters(), lr=0.1), loader(), plan, epochs=2
    )
    with pytest.raises(NotPrivate, match=r"'idle\.weight' has no gradient"):
        one_epoch(private)


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


# -- what is refused before anything is touched -------------------------------------------


class Estimator:
    def fit(self, x, y):
        return self


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Estimator(), "Estimator: scikit-learn estimators cannot be made private yet"),
        ("model", "a str cannot be made private"),
        (None, "a NoneType cannot be made private"),
        (nn.DataParallel(nn.Linear(4, 2)), "parallel"),
        (nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)), "'1' is a BatchNorm1d"),
    ],
)
def test_models_that_cannot_be_private_are_refused(plan, model, message):
    optimizer = (
        torch.optim.SGD(model.parameters(), lr=0.1) if isinstance(model, nn.Module) else None
    )
    with pytest.raises(NotPrivate, match=message):
        make_private(model, optimizer, loader(), plan, epochs=2)


def test_a_model_without_trainable_parameters_is_refused(plan):
    model = nn.Linear(4, 2).requires_grad_(False)
    with pytest.raises(InputError, match="no trainable parameter"):
        make_private(model, torch.optim.SGD(model.parameters(), lr=0.1), loader(), plan, epochs=2)


def test_a_model_is_made_private_once(private, plan):
    again = torch.optim.SGD(private.model.parameters(), lr=0.1)
    with pytest.raises(NotPrivate, match="already"):
        make_private(private.model, again, loader(), plan, epochs=2)


def test_an_opacus_model_or_optimizer_is_refused(private, plan):
    from opacus.grad_sample import GradSampleModule

    model = network()
    with pytest.raises(InputError, match="plain torch optimizer, not a PrivateOptimizer"):
        make_private(model, private.optimizer, loader(), plan, epochs=2)
    with pytest.raises(NotPrivate, match="already"):
        make_private(GradSampleModule(nn.Linear(4, 2)), None, loader(), plan, epochs=2)


def test_the_optimizer_must_hold_the_trainable_parameters_and_no_others(plan):
    model = network()
    with pytest.raises(InputError, match="plain torch optimizer, not a NoneType"):
        make_private(model, None, loader(), plan, epochs=2)
    with pytest.raises(InputError, match="another model"):
        make_private(
            model, torch.optim.SGD(nn.Linear(4, 2).parameters(), lr=0.1), loader(), plan, epochs=2
        )
    with pytest.raises(InputError, match=r"lacks parameter '2\.weight'"):
        make_private(
            model, torch.optim.SGD(model[0].parameters(), lr=0.1), loader(), plan, epochs=2
        )


def test_frozen_parameters_need_no_optimizer_and_stay(plan):
    model = network()
    model[0].requires_grad_(False)
    before = parameters(model[0])
    private = make_private(
        model, torch.optim.SGD(model[2].parameters(), lr=0.1), loader(), plan, epochs=2
    )
    one_epoch(private)
    private.check(model)
    assert same(before, model[0])


def test_an_optimizer_that_has_stepped_is_refused(plan):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    criterion(model(rows()[0]), rows()[1]).backward()
    optimizer.step()
    with pytest.raises(InputError, match="not private; make a new one"):
        make_private(model, optimizer, loader(), plan, epochs=2)


@pytest.mark.parametrize("epochs", [0, -1, 1.5, True])
def test_epochs_must_be_whole_and_positive(epochs):
    model = network()
    with pytest.raises(InputError, match="epochs"):
        make_private(
            model, torch.optim.SGD(model.parameters(), lr=0.1), loader(), RULE, epochs=epochs
        )


def test_a_refused_model_is_left_as_it_was():
    model = network()
    with pytest.raises(InputError):
        make_private(model, torch.optim.SGD(model.parameters(), lr=0.1), [], RULE, epochs=1)
    assert model[1].inplace
    assert not hasattr(model, "autograd_grad_sample_hooks")


def test_a_plan_for_other_rows_or_epochs_is_refused(plan):
    for other, epochs in ((loader(300), 2), (loader(batch_size=25), 2), (loader(), 3)):
        model = network()
        with pytest.raises(InputError, match="made for other rows"):
            make_private(
                model, torch.optim.SGD(model.parameters(), lr=0.1), other, plan, epochs=epochs
            )


def test_a_plan_that_claims_too_much_is_refused(plan):
    import dataclasses

    model = network()
    weak = dataclasses.replace(plan, noise_multiplier=plan.noise_multiplier / 3)
    with pytest.raises(NotPrivate, match="spends up to"):
        make_private(model, torch.optim.SGD(model.parameters(), lr=0.1), loader(), weak, epochs=2)


@pytest.mark.parametrize("package", ["torch", "opacus"])
def test_a_missing_library_names_the_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"{package} is not installed.*\[dp\]"):
        make_private(None, None, None, RULE, epochs=1)


def test_states_are_compared_by_value():
    state = {
        "w": torch.tensor([1.0, float("nan")]),
        "n": torch.tensor(3),
        "b": torch.tensor([True]),
    }
    kept = {name: value.clone() for name, value in state.items()}
    assert training._difference(state, kept) is None
    assert training._digest(state) == training._digest(kept)
    for name, changed in (
        ("w", torch.ones(3)),
        ("n", torch.tensor(4)),
        ("b", torch.tensor([False])),
    ):
        assert training._difference(state | {name: changed}, kept) == name
        assert training._digest(state | {name: changed}) != training._digest(kept)
    assert training._difference(state | {"new": torch.ones(1)}, kept) == "new"


def test_planning_and_wrapping_take_seconds_at_most():
    model = network()
    began = time.process_time()
    make_private(model, torch.optim.SGD(model.parameters(), lr=0.1), loader(), RULE, epochs=3)
    assert time.process_time() - began < 10  # about 1 s on an idle core
