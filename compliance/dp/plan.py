"""The plan of a private training: everything that sampler, optimizer and accountant share.

What must agree travels in one frozen object: the noise was found for exactly this
sampling rate and this number of steps, and the training that carries the plan takes
no other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from compliance.dp import accounting
from compliance.errors import InputError, NotPrivate
from compliance.policy import Privacy

Unit = Literal["row", "subject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyPlan:
    """A DP-SGD training that is (epsilon, delta)-differentially private at its last step.

    Attributes:
        epsilon: the cap: what the whole plan spends is at most this.
        delta: the chance that the bound may fail.
        max_grad_norm: each row's gradient is clipped to this Euclidean norm.
        noise_multiplier: standard deviation of the noise over ``max_grad_norm``.
        sample_rate: the chance of each row to be in a batch, independent of all others.
        steps: how many batches are drawn in all.
        epochs: how many passes of ``steps / epochs`` batches.
        batch: the expected number of rows in a batch; the sum of gradients is divided by it.
        unit: what one neighbour has more than the other. ``subject`` is true only of data
            in which no subject has two rows.
        accountant: the bound that proves the plan (`compliance.dp.accounting`).
        sampler: how batches are drawn.
        neighbouring: how two data sets differ that must look alike.
    """

    epsilon: float
    delta: float
    max_grad_norm: float
    noise_multiplier: float
    sample_rate: float
    steps: int
    epochs: int
    batch: float
    unit: Unit = "row"
    accountant: Literal["RDP", "PLD"] = "PLD"
    sampler: Literal["Poisson"] = "Poisson"
    neighbouring: Literal["add/remove one"] = "add/remove one"

    def __post_init__(self) -> None:
        for name in (
            "epsilon",
            "delta",
            "max_grad_norm",
            "noise_multiplier",
            "sample_rate",
            "batch",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be a number above 0")
        if self.delta >= 1 or self.sample_rate > 1:
            raise InputError("delta must be below 1 and sample_rate at most 1")
        if self.epochs < 1 or self.steps < self.epochs or self.steps % self.epochs:
            raise InputError("steps must be a positive multiple of epochs")

    @classmethod
    def make(
        cls, rule: Privacy, *, rows: int, batch_size: int, epochs: int, unit: Unit = "row"
    ) -> PrivacyPlan:
        """Find the least noise that keeps a training within a policy's rule.

        Args:
            rule: the cap on epsilon and delta, and the clipping norm.
            rows: how many rows the data has.
            batch_size: the expected size of a batch; at most ``rows`` counts.
            epochs: how many passes will be made.
            unit: see the attribute.

        Raises:
            InputError: a count is not a whole number above 0, or the cap is out of reach.
            MissingExtra: dp-accounting is not installed.
        """
        for name, count in (("rows", rows), ("batch_size", batch_size), ("epochs", epochs)):
            _whole(count, name)
        batch = min(batch_size, rows)
        rate = batch / rows
        steps = epochs * -(-rows // batch)
        noise = accounting.noise_for(
            epsilon=rule.epsilon, sample_rate=rate, steps=steps, delta=rule.delta
        )
        bound = accounting.best_bound(
            noise_multiplier=noise, sample_rate=rate, steps=steps, delta=rule.delta
        )
        return cls(
            epsilon=rule.epsilon,
            delta=rule.delta,
            max_grad_norm=rule.max_grad_norm,
            noise_multiplier=noise,
            sample_rate=rate,
            steps=steps,
            epochs=epochs,
            batch=float(batch),
            unit=unit,
            accountant=bound.accountant,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Return how many batches one pass draws."""
        return self.steps // self.epochs

    def epsilon_after(self, steps: int) -> float:
        """Return what the first ``steps`` steps spend; 0 before the first, at most the cap.

        Raises:
            InputError: the plan has fewer steps.
        """
        if not 0 <= steps <= self.steps:
            raise InputError(f"the plan has {self.steps} steps")
        # Fewer steps never spend more: the cap bounds each prefix of a plan that holds it.
        return min(self._bound(steps), self.epsilon)

    def verify(self) -> None:
        """Prove the plan anew, for plans that `make` did not make.

        Raises:
            NotPrivate: its noise does not keep its steps within its epsilon.
        """
        spent = self._bound(self.steps)
        if spent > self.epsilon:
            raise NotPrivate(
                f"the plan claims epsilon {self.epsilon:g} and spends up to {spent:.4g}; "
                "make it with PrivacyPlan.make"
            )

    def _bound(self, steps: int) -> float:
        return accounting.best_bound(
            noise_multiplier=self.noise_multiplier,
            sample_rate=self.sample_rate,
            steps=steps,
            delta=self.delta,
        ).epsilon


def _whole(count: int, name: str) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"{name} must be a whole number above 0")
