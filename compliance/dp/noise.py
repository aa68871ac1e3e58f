"""Random numbers that nobody can predict: the noise, and who is in a batch.

AES-256 in counter mode under a key from the operating system (NIST SP 800-90A names
the construction), because torch's own generator is the Mersenne twister, whose CPU
version keeps 32 bits of its seed and whose outputs give away its state.

What this does not do: the noise is a floating-point number, so the attack of Mironov
2012 on the last bits of a single release is out of scope, as in Opacus's default mode.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_BITS = 53  # what a double's fraction holds


class Source:
    """A stream of uniform and normal draws; a forked process gets a stream of its own."""

    def __init__(self) -> None:
        self._rekey()

    def _rekey(self) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        self._owner = os.getpid()
        cipher = Cipher(algorithms.AES256(os.urandom(32)), modes.CTR(bytes(16)))
        self._stream = cipher.encryptor()

    def uniform(self, count: int) -> Tensor:
        """Return ``count`` doubles, uniform on the multiples of 2^-53 in (0, 1]."""
        import torch

        if os.getpid() != self._owner:
            self._rekey()
        if count == 0:
            return torch.empty(0, dtype=torch.float64)
        words = torch.frombuffer(
            bytearray(self._stream.update(bytes(8 * count))), dtype=torch.int64
        )
        return words.bitwise_and_((1 << _BITS) - 1).add_(1).to(torch.float64).mul_(2.0**-_BITS)

    def normal(self, count: int) -> Tensor:
        """Return ``count`` standard normal doubles, by Box and Muller 1958; none beyond 8.6."""
        import torch

        half = (count + 1) // 2
        radius = self.uniform(half).log_().mul_(-2).sqrt_()
        angle = self.uniform(half).mul_(2 * math.pi)
        return torch.cat([radius * angle.cos(), radius * angle.sin()])[:count]

    def noise_like(self, reference: Tensor, deviation: float) -> Tensor:
        """Return noise in the shape, type and place of a tensor."""
        drawn = self.normal(reference.numel()).mul_(deviation)
        return drawn.to(reference.dtype).to(reference.device).view(reference.shape)
