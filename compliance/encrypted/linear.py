"""Linear models: what a server of encrypted scoring needs to know of a trained one."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

from compliance.errors import InputError

MAX_FEATURES = 4096
MAX_WEIGHT = 2.0**20  # of all weights and the intercept together: nothing overflows below it


@dataclass(frozen=True, slots=True, eq=False)
class LinearModel:
    """A linear score: weights, intercept, and whether a sigmoid follows.

    Attributes:
        weights: one for each feature.
        intercept: added to the sum.
        logistic: whether the sigmoid of the score is the probability of the second class.
    """

    weights: tuple[float, ...]
    intercept: float
    logistic: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.weights) <= MAX_FEATURES:
            raise InputError(f"a model has 1 to {MAX_FEATURES} weights, not {len(self.weights)}")
        total = math.fsum(map(abs, self.weights)) + abs(self.intercept)
        if not total <= MAX_WEIGHT:  # also when it is NaN
            raise InputError(
                f"weights must be finite and their absolute sum at most {MAX_WEIGHT:.0f}; "
                "scale the features and train again"
            )

    @classmethod
    def of(cls, model: Any, *, logistic: bool | None = None) -> LinearModel:
        """Return the linear model inside a trained one.

        Args:
            model: a fitted scikit-learn ``LogisticRegression`` of two classes,
                ``LinearRegression`` or ``Ridge``; a ``torch.nn.Linear`` with one output; or a
                pair of coefficients and intercept.
            logistic: for the last two, whether a sigmoid follows; default: it does not.

        Raises:
            InputError: another kind of model, not fitted, or with several outputs.
        """
        if isinstance(model, cls):
            return model
        if isinstance(model, tuple) and len(model) == 2:  # noqa: PLR2004  a pair
            return cls(_vector(model[0]), _number(model[1]), bool(logistic))
        if _is_a(model, "torch.nn", "Linear"):
            return cls._of_torch(model, logistic=bool(logistic))
        return cls._of_sklearn(model, logistic=logistic)

    @classmethod
    def _of_torch(cls, layer: Any, *, logistic: bool) -> LinearModel:
        intercept = 0.0 if layer.bias is None else _number(layer.bias.detach().cpu().numpy())
        return cls(_vector(layer.weight.detach().cpu().numpy()), intercept, logistic)

    @classmethod
    def _of_sklearn(cls, model: Any, *, logistic: bool | None) -> LinearModel:
        home = "sklearn.linear_model"
        classifier = _is_a(model, home, "LogisticRegression")
        if not classifier and not any(_is_a(model, home, n) for n in ("LinearRegression", "Ridge")):
            raise InputError(
                f"{type(model).__name__} is no LogisticRegression, LinearRegression, Ridge, "
                "torch.nn.Linear or (coefficients, intercept); of a pipeline, give the last step "
                "and let the client transform the features"
            )
        if not hasattr(model, "coef_"):
            raise InputError(f"the {type(model).__name__} is not fitted")
        if logistic is not None and logistic != classifier:
            raise InputError(f"a {type(model).__name__} says itself whether a sigmoid follows")
        return cls(_vector(model.coef_), _number(model.intercept_), classifier)


def _vector(values: Any) -> tuple[float, ...]:
    """Return the coefficients of one output, of shape (features,) or (1, features)."""
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 2 and len(array) == 1:  # noqa: PLR2004  one output
        array = array[0]
    if array.ndim != 1:
        raise InputError(f"one output is scored, the coefficients have shape {array.shape}")
    return tuple(array.tolist())


def _number(value: Any) -> float:
    import numpy as np

    array = np.asarray(value, dtype=np.float64)
    if array.size != 1:
        raise InputError(f"one output is scored, the intercept has shape {array.shape}")
    return float(array.item())


def _is_a(value: object, module: str, name: str) -> bool:
    """Say whether a value is an instance of a class, without importing the class's module."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)
