"""Several small causal transformers for sums, trained and decoded together as one module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .sums import BLANK, TOKENS

FAR = 3
"""Digits: distances from which the relative bias is one and the same."""
_BIAS_SCALE = 16.0  # lets the bias shut out what is far within a few hundred steps


class Adders(nn.Module):
    """Independent transformers, one a member, over the digits of a sum; their parameters are stacked.

    Positions are coupled (a_i and b_i at i, ``+`` at -1, ``=`` at 0, answer_j at j + 1) and turn
    queries and keys (RoPE, Su et al. 2021) by angles that each member stretches by a scale of its own (0: no
    position code). With ``position="relative"`` they add a learnt bias for each distance instead, one for
    all beyond ``FAR`` (as in T5, Raffel et al. 2020).
    Pre-norm layers without affine parameters, queries and keys normalised (Henry et al. 2020), ReLU.
    """

    rates: Tensor
    offsets: Tensor

    def __init__(
        self,
        scales: Sequence[float] = (1.0, 0.8, 1.25),
        layers: int = 2,
        width: int = 64,
        heads: int = 4,
        base: float = 1000.0,
        gain: float = 2.0,
        position: str = "rotary",
    ) -> None:
        super().__init__()
        if position not in ("rotary", "relative"):
            raise ValueError(f"position must be rotary or relative; it is {position!r}.")
        members = len(scales)
        self.width, self.heads = width, heads
        self.embedding = nn.Parameter(torch.randn(members, TOKENS, width))
        self.layers = nn.ModuleList(Layer(members, width, heads, gain) for _ in range(layers))
        self.unembedding = nn.Parameter(torch.zeros(members, width, 10))
        self.bias: nn.Parameter | None = None
        half = width // heads // 2
        turned = torch.tensor(scales)
        if position == "relative":
            self.bias = nn.Parameter(torch.zeros(members, heads, 2 * FAR + 1))
            turned = torch.zeros(members)
        rates = turned[:, None] * base ** -(torch.arange(half) / half)
        self.register_buffer("rates", rates, persistent=False)
        self.register_buffer("offsets", torch.arange(members).view(-1, 1, 1) * TOKENS, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``[members, batch, width + 1, 10]`` of the answers' digits.

        ``tokens``: ``[members, batch, 3 width + 2]``, the prompts and all but the last answer digit.
        """
        width = (tokens.size(-1) - 2) // 3
        x, turn, mask = self._embed(tokens), self._turn(_positions(width)), self._mask(tokens)
        *lower, last = self._layers()
        for layer in lower:
            normed = _norm(x)
            x = layer.add(x, _attend(layer.queries(normed, turn), *layer.keys(normed, turn), mask))
        normed, read = _norm(x), -width - 1  # only what is read of the last layer
        queries = last.queries(normed[:, :, read:], turn[..., read:, :])
        mixed = _attend(queries, *last.keys(normed, turn), mask[..., read:, :])
        return self._logits(last.add(x[:, :, read:], mixed))

    @torch.inference_mode()
    def decode(self, prompts: Tensor) -> Tensor:
        """Greedy answers ``[members, batch, width + 1]`` to prompts ``[members, batch, 2 width + 2]``.

        Keys and values are cached; each step decodes one digit of every problem and member.
        """
        members, batch, start = prompts.shape
        width = (start - 2) // 2
        turn = self._turn(_positions(width))
        mask = self._mask(torch.cat([prompts, prompts.new_zeros(members, batch, width)], -1))
        shape = (members, batch, self.heads, start + width, self.width // self.heads)
        layers = self._layers()
        cache = [(self.embedding.new_empty(shape), self.embedding.new_empty(shape)) for _ in layers]
        answers = torch.empty(members, batch, width + 1, dtype=torch.uint8, device=prompts.device)
        tokens, begin = prompts, 0
        for place in range(width + 1):
            end = start + place
            x, angles = self._embed(tokens), turn[..., begin:end, :]
            for layer, (keys, values) in zip(layers, cache, strict=True):
                normed = _norm(x)
                keys[..., begin:end, :], values[..., begin:end, :] = layer.keys(normed, angles)
                if layer is layers[-1]:  # only the newest position is read
                    x, normed, angles, begin = x[:, :, -1:], normed[:, :, -1:], angles[..., -1:, :], end - 1
                seen = mask[..., begin:end, :end]
                queries = layer.queries(normed, angles)
                x = layer.add(x, _attend(queries, keys[..., :end, :], values[..., :end, :], seen))
            tokens, begin = self._logits(x).argmax(-1), end
            answers[:, :, place] = tokens[:, :, 0]
        return answers

    def _layers(self) -> list[Layer]:
        return cast("list[Layer]", list(self.layers))

    def _embed(self, tokens: Tensor) -> Tensor:
        return functional.embedding(tokens.long() + self.offsets, self.embedding.flatten(0, 1))

    def _logits(self, x: Tensor) -> Tensor:
        return _apply(_norm(x), self.unembedding)

    def _mask(self, tokens: Tensor) -> Tensor:
        """Where each position may look, or with which bias; see ``_visible``."""
        visible = _visible(tokens)
        if self.bias is None:
            return visible
        places = _positions((tokens.size(-1) - 2) // 3).to(tokens.device)
        distance = (places[:, None] - places).clamp(-FAR, FAR) + FAR
        bias = (_BIAS_SCALE * self.bias)[:, None, :, distance].expand(-1, tokens.size(1), -1, -1, -1)
        return bias.masked_fill(~visible, -torch.inf)

    def _turn(self, positions: Tensor) -> Tensor:
        """Unit complex numbers ``[members, 1, 1, time, head width / 2]``."""
        angles = positions.to(self.rates)[:, None] * self.rates[:, None, None, None]
        return torch.polar(torch.ones_like(angles), angles)


class Layer(nn.Module):
    """One layer of every member; weights are ``[members, inputs, outputs]``."""

    def __init__(self, members: int, width: int, heads: int, gain: float) -> None:
        super().__init__()
        self.heads = heads

        def drawn(outputs: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(members, width, outputs) * width**-0.5)

        self.query, self.key, self.value, self.up = drawn(width), drawn(width), drawn(width), drawn(4 * width)
        self.out = nn.Parameter(torch.zeros(members, width, width))
        self.down = nn.Parameter(torch.zeros(members, 4 * width, width))
        self.gain = nn.Parameter(torch.full((members, 1, heads, 1, 1), gain))

    def keys(self, x: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values ``[members, batch, heads, time, head width]``."""
        return _rotate(self._split(x, self.key), turn), self._heads(_apply(x, self.value))

    def queries(self, x: Tensor, turn: Tensor) -> Tensor:
        """Queries of the same shape."""
        return _rotate(self._split(x, self.query) * self.gain, turn)

    def add(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The residual stream ``[members, batch, time, width]`` after attention's result and the MLP."""
        x = x + _apply(mixed.transpose(2, 3).flatten(3), self.out)
        return x + _apply(functional.relu(_apply(_norm(x), self.up)), self.down)

    def _split(self, x: Tensor, weight: Tensor) -> Tensor:
        heads = self._heads(_apply(x, weight))
        return functional.rms_norm(heads, heads.shape[-1:], eps=1e-6)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:3], self.heads, -1).transpose(2, 3)


def _positions(width: int) -> Tensor:
    digits = torch.arange(width)
    return torch.cat([digits, torch.tensor([-1]), digits, torch.tensor([0]), digits + 1])


def _visible(tokens: Tensor) -> Tensor:
    """Which positions each may read: those before it and itself, but no blanks.

    ``[members, batch, 1, time, time]``, or ``[time, time]`` where there are no blanks.
    """
    time, filled = tokens.size(-1), tokens != BLANK
    before = torch.ones(time, time, dtype=torch.bool, device=tokens.device).tril()
    if bool(filled.all()):
        return before
    itself = torch.eye(time, dtype=torch.bool, device=tokens.device)
    return (before & filled[:, :, None, None]) | itself


def _attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    mask = mask.flatten(0, 1) if mask.dim() > 2 else mask
    q, k, v = (part.flatten(0, 1) for part in (queries, keys, values))
    return functional.scaled_dot_product_attention(q, k, v, mask).reshape(queries.shape)


def _apply(x: Tensor, weight: Tensor) -> Tensor:
    """Each member's matrix on its own rows."""
    return torch.bmm(x.flatten(1, 2), weight).view(*x.shape[:3], -1)


def _norm(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:])


def _rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Neighbours taken as one complex number each, and turned: one pass over memory instead of six."""
    pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)
