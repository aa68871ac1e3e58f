"""The arrays of this room, and the one clear error where numpy is not installed."""

from __future__ import annotations

from compliance.errors import MissingExtra

try:
    import numpy as np
    from numpy.typing import NDArray
except ImportError as error:
    raise MissingExtra("fairness", "numpy") from error

Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

__all__ = ["Counts", "Flags", "Floats", "np"]
