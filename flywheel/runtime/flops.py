"""Counts the FLOPs of a fit: those of its matrix products, convolutions and attention, forward and backward.

A step is counted while it runs, by the formulas of ``torch.utils.flop_counter`` (2 a multiplication with its
addition), the optimizer's products too. That costs a call from Python for each operation, so steps whose
batches have the same shapes are counted once a fit. Where the shapes keep changing, as with texts of any
length, the first few kinds of batches are counted, and then one of many; what the others cost is read from
the straight line through those: so much a step, for the optimizer, and so much for each element of the batch.
No clock decides, so that a fit always has the same number. What happens between steps, such as validation, is
not counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning
import torch
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode

_COUNTED_FIRST, _THEN_ONE_IN = 2, 32
"""Kinds of batches of a fit that are counted, and then how many of those that were not seen before."""
Shapes = tuple[Any, ...]
"""What a step costs by: the shapes of a batch's tensors, and whether the optimizer steps after it."""


class _Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the FLOPs of what is called."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0.0

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """As torch's own counter: what is compiled runs as it does without."""
        return True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = _FORMULAS.get(getattr(func, "_overloadpacket", func))
        if formula is not None:
            with contextlib.suppress(Exception):  # of a formula: the fit is not to fail for it
                self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


@dataclass(slots=True)
class _Line:
    """The straight line through what was counted, by least squares; through 0 if its slope is not known."""

    points: list[tuple[float, float]] = field(default_factory=list)
    """Elements of a batch, and the FLOPs of its step."""

    def add(self, size: float, flops: float) -> None:
        """One more."""
        self.points.append((size, flops))

    def at(self, size: float) -> float:
        """The FLOPs of a step of this size; 0 or more."""
        n = len(self.points)
        mean_size, mean = sum(x for x, _ in self.points) / n, sum(y for _, y in self.points) / n
        squares = sum((x - mean_size) ** 2 for x, _ in self.points)
        products = sum((x - mean_size) * (y - mean) for x, y in self.points)
        slope = products / squares if squares else 0.0
        if slope <= 0 or slope * mean_size > mean:  # too alike in size to tell
            return mean / mean_size * size
        return mean + slope * (size - mean_size)


def _on_cpu(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> float:
    count: Any = flop_counter.sdpa_flop_count
    return float(count(query.shape, key.shape, value.shape))


def _on_cpu_backward(grad: torch.Tensor, *tensors: torch.Tensor, **_: Any) -> float:
    count: Any = flop_counter.sdpa_backward_flop_count
    return float(count(grad.shape, *(tensor.shape for tensor in tensors[:3])))


_FORMULAS: dict[Any, Callable[..., Any]] = {
    **flop_counter.flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _on_cpu,  # torch has none for these two
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _on_cpu_backward,
}


class FlopCount(lightning.Callback):
    """Counts a fit. To be the first of the trainer's callbacks, so that no other is counted with a step."""

    def __init__(self, add: Callable[[float], None]) -> None:
        """``add`` is called with the FLOPs of each step, on each rank with its own."""
        self.flops = 0.0
        """Of this rank's steps so far."""
        self._add = add
        self._known: dict[Shapes, float] = {}
        self._unknown: set[Shapes] = set()
        self._line = _Line()
        self._shapes: Shapes = ()
        self._size = 0
        self._count: Any = None
        """A ``_Count`` while a step is counted."""

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin to count, if the step is to be."""
        self.close()
        every = trainer.accumulate_grad_batches
        shapes = tuple(tuple(tensor.shape) for tensor in _tensors(batch))
        self._shapes, self._size = (*shapes, (batch_idx + 1) % every == 0), _elements(shapes)
        if self._is_to_count():
            self._count = _Count()
            self._count.__enter__()

    def _is_to_count(self) -> bool:
        if self._shapes in self._known or self._shapes in self._unknown:
            return False
        number = len(self._known) + len(self._unknown)
        return number < _COUNTED_FIRST or number % _THEN_ONE_IN == 0

    def on_train_batch_end(self, *_: Any) -> None:
        """Add the step."""
        if count := self.close():
            self._known[self._shapes] = count.flops
            self._line.add(self._size, count.flops)
        flops = self._known.get(self._shapes)
        if flops is None:
            self._unknown.add(self._shapes)
            flops = round(self._line.at(self._size))
        self.flops += flops
        self._add(flops)

    def on_exception(self, *_: Any) -> None:
        """Count no more."""
        self.close()

    def close(self) -> Any:
        """End the counting of a step, if one is being counted, also where its end was never reached."""
        count, self._count = self._count, None
        if count is not None:
            count.__exit__(None, None, None)
        return count


def _tensors(batch: Any) -> Iterator[torch.Tensor]:
    """The tensors of a batch, however deep."""
    if isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _tensors(value)
    elif isinstance(batch, (list, tuple)):
        for value in batch:
            yield from _tensors(value)
    elif hasattr(batch, "__dict__"):  # e.g. a dataclass, or a graph of another library
        yield from _tensors({k: v for k, v in vars(batch).items() if isinstance(v, torch.Tensor)})


def _elements(shapes: Sequence[tuple[int, ...]]) -> int:
    """Of all tensors together, one at least."""
    return max(1, sum(torch.Size(shape).numel() for shape in shapes))
