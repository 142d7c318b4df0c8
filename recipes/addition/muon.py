"""Muon for stacks of matrices and AdamW for the rest, in one optimizer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class MuonAdamW(torch.optim.AdamW):
    """Muon (Jordan 2024) on matrices ``[..., inputs, outputs]``, AdamW without weight decay on the rest.

    Leading axes are separate matrices; all of one shape, or its transpose, are orthogonalised as one batch.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        lr: float = 0.02,
        adam_lr: float = 2e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        muon: dict[str, Any] = {"params": list(matrices), "lr": lr, "momentum": momentum}
        super().__init__([muon, {"params": list(others)}], adam_lr, betas, weight_decay=0.0)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; the loss, if a closure computes it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._muon(**self.param_groups[0])
        super().step()  # passes over the matrices, which have no gradient any more
        return loss

    def _muon(self, params: list[nn.Parameter], lr: float, momentum: float, **_: Any) -> None:
        stacks: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        for matrix in params:
            stacks[min(matrix.shape[-2:]), max(matrix.shape[-2:])].append(matrix)
        for matrices in stacks.values():
            updates = [_wide(self._nesterov(matrix, momentum)).flatten(0, -3) for matrix in matrices]
            steps = torch.split(orthogonalised(torch.cat(updates)), [len(update) for update in updates])
            for matrix, step in zip(matrices, steps, strict=True):
                inputs, outputs = matrix.shape[-2:]
                wide = _wide(matrix)
                wide.add_(step.reshape(wide.shape), alpha=-lr * max(1.0, outputs / inputs) ** 0.5)

    def _nesterov(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        """The gradient, taken out of the parameter, with Nesterov's momentum."""
        assert matrix.grad is not None
        gradient, matrix.grad = matrix.grad, None
        average = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
        average.lerp_(gradient, 1 - momentum)
        return gradient.lerp(average, momentum)


def _wide(matrix: Tensor) -> Tensor:
    """The matrix or its transpose, as a view: not more rows than columns."""
    return matrix.mT if matrix.size(-2) > matrix.size(-1) else matrix


def orthogonalised(matrices: Tensor, steps: int = 5) -> Tensor:
    """About the nearest orthogonal matrices, ``[stack, rows, columns]``, by Newton-Schulz iteration."""
    x: Tensor = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x
