"""Randomness by name: a key is a path, and its seed is a hash of that path.

Work that is keyed by (run seed, generation, stage, item, purpose) draws the same numbers in
whatever order, on whatever rank and in whatever session it is done. Splittable keys as in JAX's
``jax.random``, with names in place of splits.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True, slots=True)
class Key:
    """A node in the tree of randomness: ``Key(0)(3, "generate", 17).seed`` is an int in [0, 2**63)."""

    path: tuple[str | int, ...]

    @classmethod
    def root(cls, seed: int) -> Key:
        """The key of a run with this seed."""
        return cls((seed,))

    def __call__(self, *parts: str | int) -> Key:
        """The key further down the path."""
        return Key(self.path + parts)

    @property
    def seed(self) -> int:
        """63-bit seed: BLAKE2b of the path."""
        text = json.dumps(self.path, separators=(",", ":")).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1

    def numpy(self) -> np.random.Generator:
        """A fresh NumPy generator."""
        import numpy as np

        return np.random.default_rng(self.seed)

    def torch(self, device: str = "cpu") -> torch.Generator:
        """A fresh torch generator on ``device``."""
        import torch

        return torch.Generator(device).manual_seed(self.seed)

    def seed_globals(self) -> None:
        """Seed the global generators of Python, NumPy and torch, for code that draws from them."""
        import numpy as np
        import torch

        random.seed(self.seed)
        np.random.seed(self.seed % 2**32)
        torch.manual_seed(self.seed)
