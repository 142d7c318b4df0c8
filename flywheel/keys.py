"""Randomness by name: a key is a path, and its seed is a hash of that path.

Work that is keyed by (run seed, generation, stage, item, purpose) draws the same numbers in
whatever order, on whatever rank and in whatever session it is done. Splittable keys as in JAX's
``jax.random``, with names in place of splits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as json_text
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

_GOLDEN, _MIX = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


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

    def each(self, names: Iterable[str]) -> Keys:
        """The keys of these names: ``key.each(["a", "b"]).seeds[1] == key("b").seed``."""
        import numpy as np

        path = json.dumps(self.path, separators=(",", ":"))
        before = hashlib.blake2b(f"{path[:-1]},".encode(), digest_size=8)
        digests = []
        for name in names:
            digest = before.copy()
            digest.update(f"{json_text(name)}]".encode())
            digests.append(digest.digest())
        return Keys((np.frombuffer(b"".join(digests), ">u8") >> np.uint64(1)).astype(np.int64))

    def seed_globals(self) -> None:
        """Seed the global generators of Python, NumPy and torch, for code that draws from them."""
        _seed_globals(self.seed)


@contextmanager
def keep_globals() -> Iterator[None]:
    """Put the global generators of Python, NumPy and torch back as they were, once the block ends."""
    import random

    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numpy)


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """The keys of the rows of a table: of prompts, of items, or of the groups of samples.

    What is drawn by them depends neither on the rows beside a row nor on who works on it.
    """

    seeds: np.ndarray
    """Int64, shape (rows,): the seed of each row's key."""

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, rows: Any) -> Keys:
        """The keys of some rows, by a slice or an array of indices."""
        return Keys(self.seeds[rows])

    def numpy(self) -> list[np.random.Generator]:
        """A fresh NumPy generator for each row."""
        import numpy as np

        return [np.random.default_rng(seed) for seed in self.seeds.tolist()]

    def torch(self, device: str = "cpu") -> list[torch.Generator]:
        """A fresh torch generator on ``device`` for each row."""
        import torch

        return [torch.Generator(device).manual_seed(seed) for seed in self.seeds.tolist()]

    def uniform(self, count: int, purpose: str = "") -> np.ndarray:
        """Float64, shape (rows, count), in (0, 1): without a generator a row, so that it is quick.

        Other purposes give other numbers. SplitMix64 (Steele et al. 2014) counts up from each row's seed.
        """
        import numpy as np

        start = _mixed(self.seeds.astype(np.uint64) ^ np.uint64(Key((purpose,)).seed))
        steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
        numbers = _mixed(start[:, None] + steps)
        uniform: np.ndarray = ((numbers >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        return uniform

    def seed_globals(self) -> None:
        """Seed the global generators from all of these keys: draws then depend on which rows go together."""
        _seed_globals(int.from_bytes(hashlib.blake2b(self.seeds.tobytes(), digest_size=8).digest()) >> 1)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """SplitMix64's output function, on uint64."""
    import numpy as np

    for shift, factor in zip((30, 27), _MIX, strict=True):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    mixed: np.ndarray = numbers ^ (numbers >> np.uint64(31))
    return mixed


def _seed_globals(seed: int) -> None:
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # the same without what torch keeps for devices to come: a stack trace a call, 0.3 to 2 ms
        torch.default_generator.manual_seed(seed)
