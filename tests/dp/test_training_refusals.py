"""What makes a training not private is found, and what cannot be private is refused untouched."""

import sys
import time

import pytest
import torch
from dp.networks import RULE, criterion, loader, network, one_epoch, parameters, rows, same, step
from torch import nn

from compliance.dp import training
from compliance.dp.training import make_private
from compliance.errors import InputError, MissingExtra, NotPrivate

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
