"""Opacus, held to a plan: its optimizer with our noise, and every step asked for first.

Imported only where a model is made private: it needs torch and opacus at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from compliance.dp.noise import Source
from compliance.dp.plan import PrivacyPlan
from compliance.errors import NotPrivate


class Watcher(Protocol):
    """Who is asked before a step and told after it."""

    def may_step(self, optimizer: PrivateOptimizer) -> None:
        """Raise where the plan does not allow a step."""

    def stepping(self, rows: int) -> None:
        """Count a step of this many rows; raise where they were not sampled."""


class PrivateOptimizer(DPOptimizer):  # type: ignore[misc]  # its base is untyped
    """DP-SGD's step around any torch optimizer: clip each row, add, add noise, divide, step.

    Crash points: the watcher counts a step before the parameters move.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, plan: PrivacyPlan, source: Source, watcher: Watcher
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.max_grad_norm,
            expected_batch_size=plan.batch,
        )
        self._source = source
        self._watcher = watcher
        self._rows = 0
        self.attach_step_hook(lambda _: None)

    def pre_step(self, closure: Callable[[], float] | None = None) -> bool:
        """Make the gradient private; False where Opacus only gathers a part of a batch."""
        self._watcher.may_step(self)
        self._rows += len(self.grad_samples[0])
        if not super().pre_step(closure):
            return False
        rows, self._rows = self._rows, 0
        self._watcher.stepping(rows)
        return True

    def clip_and_accumulate(self) -> None:
        """Clip, and leave out rows whose gradient is no number: no clipping would bound them."""
        samples = self.grad_samples
        if len(samples[0]):
            rows = [sample.reshape(len(sample), -1) for sample in samples]
            unusable = ~torch.stack([row.isfinite().all(1) for row in rows]).all(0)
            for sample in samples if unusable.any() else ():
                sample[unusable] = 0
        super().clip_and_accumulate()

    def add_noise(self) -> None:
        """Add noise from our own source; the sum of clipped gradients is not kept."""
        deviation = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            total = parameter.summed_grad
            noise = self._source.noise_like(total, deviation)
            parameter.grad = (total + noise).view_as(parameter)
            parameter.summed_grad = None


def attach(model: nn.Module) -> GradSampleHooks:
    """Hook a model, in place, so that a backward pass leaves each row's own gradient.

    Raises:
        NotPrivate: a module mixes rows, or keeps figures about them; it is named, with the mend.
    """
    _refuse_batch_statistics(model)
    _refuse_unsupported(model)
    for module in model.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]  # hooks need the value it overwrites
    # Opacus registers full backward hooks on modules whose input needs no gradient, on purpose.
    warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
    try:
        hooks = GradSampleHooks(model)
    except NotImplementedError as error:
        raise NotPrivate(
            f"a trainable module has buffers, which Opacus cannot handle: {error}"
        ) from None
    except ValueError:
        raise NotPrivate("the model is private already; call run.private once for it") from None
    hooks.forbid_grad_accumulation()
    return hooks


def _refuse_batch_statistics(model: nn.Module) -> None:
    for name, module in model.named_modules():
        frozen = not any(p.requires_grad for p in module.parameters())
        uses_average = not module.training and getattr(module, "track_running_stats", False)
        if isinstance(module, _BatchNorm) and not (frozen and uses_average):
            raise NotPrivate(
                f"module {name or 'model'!r} is a {type(module).__name__}: it mixes the rows of a "
                "batch, so no row's influence can be bounded. Use nn.GroupNorm or nn.LayerNorm, or "
                "model = opacus.validators.ModuleValidator.fix(model) before the optimizer is made"
            )


def _refuse_unsupported(model: nn.Module) -> None:
    for name, module in model.named_modules():
        validate = ModuleValidator.VALIDATORS.get(type(module))
        own = any(p.requires_grad for p in module.parameters(recurse=False))
        problems: list[Any] = validate(module) if validate and own else []
        if problems:
            raise NotPrivate(
                f"module {name or 'model'!r} ({type(module).__name__}) cannot be made private; "
                "model = opacus.validators.ModuleValidator.fix(model), before the optimizer is "
                "made, replaces it by one that can"
            )


def detach(hooks: GradSampleHooks, model: nn.Module) -> None:
    """Take the hooks off, and every activation and gradient that rows left in the model."""
    hooks.cleanup()
    for module in model.modules():
        for name in ("activations", "max_batch_len"):
            module.__dict__.pop(name, None)
    for parameter in model.parameters():
        parameter.__dict__.pop("summed_grad", None)
        parameter.grad = None
