"""Private training: a model, its optimizer and its loader, held to one plan.

`make_private` is believed because of what it refuses: a step beyond the plan, a step
on rows that its loader did not draw, a step of any other optimizer, and in the end a
model whose parameters are not the ones that the last private step left.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compliance.dp.loader import PoissonBatches, poisson_loader, size_of
from compliance.dp.noise import Source
from compliance.dp.plan import PrivacyPlan, Unit
from compliance.errors import BudgetExhausted, InputError, MissingExtra, NotPrivate
from compliance.policy import Privacy

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compliance.dp.opacus_engine import PrivateOptimizer

State = dict[str, "Tensor"]


def make_private(
    model: Any,
    optimizer: Any,
    loader: Any,
    rule: Privacy | PrivacyPlan,
    *,
    epochs: int,
    unit: Unit = "row",
) -> PrivateTraining:
    """Make a training differentially private and return the record that enforces it.

    The ordinary loop works unchanged on the record's ``model``, ``optimizer`` and
    ``loader``, for losses that are the mean over the rows of a batch. The model is the
    one given, with hooks (Opacus without its wrapper), in training mode; modules that
    worked in place no longer do. Batches are drawn anew by Poisson sampling; shuffling
    and ``drop_last`` lose their meaning.

    Args:
        model: a ``torch.nn.Module`` not yet trained on these rows.
        optimizer: a torch optimizer, not yet stepped, over all its trainable parameters.
        loader: a ``DataLoader`` with a batch size over a data set with a length.
        rule: the policy's cap, or a plan made before for these rows and epochs.
        epochs: how many passes will be made.
        unit: what a row of the data set stands for.

    Raises:
        NotPrivate: the model cannot be made private; the message names the module.
        InputError: optimizer, loader or epochs cannot be used as they are.
        MissingExtra: torch, opacus or dp-accounting is not installed.
    """
    _require_torch()
    _check_model(model)
    _check_optimizer(model, optimizer)
    rows, batch_size = size_of(loader)
    plan = _plan(rule, rows=rows, batch_size=batch_size, epochs=epochs, unit=unit)
    return PrivateTraining(model, optimizer, loader, plan)


class PrivateTraining:
    """One private training: its plan, the steps it took, and whose model it is.

    Attributes:
        plan: what was promised.
        model: the module given, with Opacus's hooks.
        optimizer: the only one that may step.
        loader: draws the batches by Poisson sampling.
        steps: noisy steps taken; counted before the parameters move.
    """

    def __init__(self, model: nn.Module, optimizer: Any, loader: Any, plan: PrivacyPlan) -> None:
        from compliance.dp import opacus_engine

        source = Source()
        self.plan = plan
        self.steps = 0
        self._batches = PoissonBatches(source, len(loader.dataset), plan)
        self.loader = poisson_loader(loader, self._batches)
        self._hooks = opacus_engine.attach(model)
        self.model = model.train()
        self.model.zero_grad(set_to_none=True)
        self.optimizer = opacus_engine.PrivateOptimizer(optimizer, plan, source, self)
        self._trained = {id(p) for p in self.optimizer.params}
        self._stepping = False
        self._kept = _copy(self.model)
        self._snapshots: set[bytes] = {_digest(self._kept)}
        self._state_hook = _note_snapshots(self)
        optimizer.register_step_pre_hook(self._only_private)
        optimizer.register_step_post_hook(self._stepped)

    def __repr__(self) -> str:
        return f"<private training, {self.steps} of {self.plan.steps} steps>"

    def epsilon_spent(self) -> float:
        """Return the accountant's figure for the steps taken; 0 before the first."""
        return self.plan.epsilon_after(self.steps)

    def owns(self, model: object) -> bool:
        """Say whether this is the private model: itself, or a wrapper with it as ``_module``."""
        return model is self.model or getattr(model, "_module", None) is self.model

    def check(self, model: object) -> None:
        """Make sure that a model is what the private steps left, and nothing else.

        Moving to another device or type and setting the mode are post-processing. So is
        going back to a ``state_dict()`` taken on the way, and a copy with such a state.

        Raises:
            NotPrivate: another model, or parameters or buffers that something else changed.
        """
        inner = getattr(model, "_module", model)
        if not self.owns(model) and type(inner) is not type(self.model):
            raise NotPrivate("the model returned is not the one that run.private returned")
        changed = self._changed(inner)
        if changed is not None and not self.owns(model):
            raise NotPrivate(
                "the model returned is a copy whose parameters no private step left; return the "
                "model that run.private returned"
            )
        if changed is not None:
            raise NotPrivate(
                f"{changed!r} was changed by something else than the private optimizer; step only "
                "the optimizer that run.private returned, and leave the parameters to it"
            )

    def release(self, model: object) -> nn.Module:
        """Check a model and return the plain module, free of hooks, gradients and activations.

        Raises:
            NotPrivate: as `check`.
        """
        from compliance.dp import opacus_engine

        self.check(model)
        if not self.owns(model):
            self.model.load_state_dict(model.state_dict())  # type: ignore[attr-defined]  # checked: same class
        opacus_engine.detach(self._hooks, self.model)
        self._state_hook()
        return self.model

    # -- asked and told by the optimizer ----------------------------------------------

    def may_step(self, optimizer: PrivateOptimizer) -> None:
        """Refuse a step, or a part of one, before anything is computed for it."""
        if self.steps >= self.plan.steps:
            raise BudgetExhausted(
                f"the plan has {self.plan.steps} steps in {self.plan.epochs} epochs and all were "
                "taken; ask run.private for more epochs, which adds noise to each step"
            )
        self._require_plan(optimizer)
        self._require_gradients()
        changed = self._changed(self.model)
        if changed is not None:
            raise NotPrivate(
                f"{changed!r} was changed between two private steps; a buffer that learns from the "
                "rows, or a second optimizer, makes the training not private"
            )

    def stepping(self, rows: int) -> None:
        """Count the step, then let the parameters move."""
        if not self._batches.use(rows):
            raise NotPrivate(
                "this step's rows were not drawn by the loader that run.private returned, or were "
                "used twice; iterate that loader, one step for each batch"
            )
        self.steps += 1
        self._stepping = True

    def _require_plan(self, optimizer: PrivateOptimizer) -> None:
        plan = self.plan
        planned = (plan.noise_multiplier, plan.max_grad_norm, plan.batch, "mean")
        found = (
            optimizer.noise_multiplier,
            optimizer.max_grad_norm,
            optimizer.expected_batch_size,
            optimizer.loss_reduction,
        )
        if planned != found or {id(p) for p in optimizer.params} != self._trained:
            raise NotPrivate("the private optimizer was changed after run.private made it")

    def _require_gradients(self) -> None:
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and getattr(parameter, "grad_sample", None) is None:
                raise NotPrivate(
                    f"parameter {name!r} has no gradient for each row: call loss.backward() on the "
                    "model in training mode, use every trainable parameter in forward(), or freeze "
                    "it with requires_grad_(False) before run.private"
                )

    def _only_private(self, *_: object) -> None:
        if not self._stepping:
            raise NotPrivate(
                "step the optimizer that run.private returned, not the one given to it"
            )

    def _stepped(self, *_: object) -> None:
        self._kept = _copy(self.model)

    # -- what the parameters should be --------------------------------------------------

    def _changed(self, model: Any) -> str | None:
        """Return the first name in which a model differs from what private steps left."""
        name = _difference(_state(model), self._kept)
        if name is not None and _digest(_state(model)) in self._snapshots:
            return None
        return name

    def note_snapshot(self) -> None:
        """Remember the state that ``state_dict()`` just gave away, if it is private."""
        if _difference(_state(self.model), self._kept) is None:
            self._snapshots.add(_digest(self._kept))


def unwrap(model: Any) -> Any:
    """Return the module inside Opacus's wrapper, or the model itself where there is none."""
    return getattr(model, "_module", model)


# -- what is refused before anything is touched ------------------------------------------


def _require_torch() -> None:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("dp", "torch") from error
    try:
        import opacus
    except ImportError as error:
        raise MissingExtra("dp", "opacus") from error
    del torch, opacus


def _check_model(model: Any) -> None:
    from opacus.grad_sample import AbstractGradSampleModule
    from torch import nn

    if isinstance(model, AbstractGradSampleModule) or hasattr(model, "autograd_grad_sample_hooks"):
        raise NotPrivate("the model is private already; give run.private the plain module, once")
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        raise NotPrivate("parallel models cannot be made private yet; give the module inside")
    if isinstance(model, nn.Module):
        if not any(p.requires_grad for p in model.parameters()):
            raise InputError("the model has no trainable parameter")
        return
    if hasattr(model, "fit"):
        raise NotPrivate(
            f"{type(model).__name__}: scikit-learn estimators cannot be made private yet; train a "
            "torch module, such as torch.nn.Linear for logistic regression"
        )
    raise NotPrivate(f"a {type(model).__name__} cannot be made private; give a torch.nn.Module")


def _check_optimizer(model: nn.Module, optimizer: Any) -> None:
    import torch
    from opacus.optimizers import DPOptimizer

    if not isinstance(optimizer, torch.optim.Optimizer) or isinstance(optimizer, DPOptimizer):
        raise InputError(f"give a plain torch optimizer, not a {type(optimizer).__name__}")
    if optimizer.state:
        raise InputError("the optimizer has taken steps that were not private; make a new one")
    known = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    held = {id(p) for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
    if not held <= known.keys():
        raise InputError("the optimizer holds parameters of another model; make it over this one's")
    left_out = [name for key, name in known.items() if key not in held]
    if left_out:
        raise InputError(
            f"the optimizer lacks parameter {left_out[0]!r} and {len(left_out) - 1} others; add "
            "them, or freeze them with requires_grad_(False)"
        )


def _plan(
    rule: Privacy | PrivacyPlan, *, rows: int, batch_size: int, epochs: int, unit: Unit
) -> PrivacyPlan:
    if isinstance(rule, Privacy):
        return PrivacyPlan.make(rule, rows=rows, batch_size=batch_size, epochs=epochs, unit=unit)
    batch = min(batch_size, rows)
    drawn = (batch / rows, -(-rows // batch) * epochs, epochs, float(batch))
    if drawn != (rule.sample_rate, rule.steps, rule.epochs, rule.batch):
        raise InputError("the plan was made for other rows, another batch size or other epochs")
    rule.verify()
    return rule


# -- states --------------------------------------------------------------------------------


def _state(model: nn.Module) -> State:
    """Return parameters and buffers, also those that ``state_dict`` leaves out."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _copy(model: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in _state(model).items()}


def _difference(now: State, kept: State) -> str | None:
    """Return a name whose value differs, or that only one side has; None where all agree.

    Kept values are moved to where and what the present ones are, so that ``.cpu()`` and
    ``.half()`` change nothing; a diverged model's NaN equals itself.
    """
    names = sorted(now.keys() ^ kept.keys())
    if names:
        return names[0]
    return next((name for name in kept if not _same(now[name].detach(), kept[name])), None)


def _same(now: Tensor, kept: Tensor) -> bool:
    import torch

    if now.shape != kept.shape:
        return False
    was = kept.to(device=now.device, dtype=now.dtype)
    return torch.equal(now, was) or bool(((now == was) | ((now != now) & (was != was))).all())  # noqa: PLR0124  NaN alone differs from itself


def _digest(state: State) -> bytes:
    import torch

    digest = hashlib.blake2b(digest_size=32)
    for name, value in sorted(state.items()):
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().tobytes())
    return digest.digest()


def _note_snapshots(training: PrivateTraining) -> Callable[[], None]:
    """Watch ``state_dict()`` of the model; the hook holds the record weakly, for copies' sake."""
    record = weakref.ref(training)

    def hook(module: nn.Module, *_: object) -> None:
        found = record()
        if found is not None and module is found.model:
            found.note_snapshot()

    handle = training.model.register_state_dict_post_hook(hook)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return handle.remove  # type: ignore[no-any-return]  # as above
