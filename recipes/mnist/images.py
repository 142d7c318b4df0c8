"""Batches of images ``[batch, 1, 28, 28]`` in [0, 1]: deskewing once, random distortion at each step."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

SIZE = 28


def deskew(images: torch.Tensor) -> torch.Tensor:
    """Move the centre of mass to the middle and shear the slant away, by moments (LeCun et al. 1998)."""
    axis = (torch.arange(SIZE) + 0.5) / (SIZE / 2) - 1
    y, x = axis.view(1, SIZE, 1), axis.view(1, 1, SIZE)
    ink = images[:, 0]
    mass = ink.sum((1, 2))
    mean_y, mean_x = (ink * y).sum((1, 2)) / mass, (ink * x).sum((1, 2)) / mass
    dy, dx = y - mean_y.view(-1, 1, 1), x - mean_x.view(-1, 1, 1)
    slant = (ink * dy * dx).sum((1, 2)) / (ink * dy * dy).sum((1, 2))
    matrix = torch.zeros(len(images), 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 0, 2] = 1, slant, mean_x
    matrix[:, 1, 1], matrix[:, 1, 2] = 1, mean_y
    return _sample(images, F.affine_grid(matrix, list(images.shape), align_corners=False))


class Draws:
    """Random numbers for each image: from torch's global generator, or those that are given, in turn."""

    def __init__(self, images: torch.Tensor, numbers: np.ndarray | None = None) -> None:
        """``numbers``: [images, NUMBERS], in (0, 1)."""
        self._count, self._device, self._used = len(images), images.device, 0
        self._numbers = None if numbers is None else torch.from_numpy(numbers)

    def uniform(self, *shape: int) -> torch.Tensor:
        """[images, *shape], in [0, 1)."""
        if self._numbers is None:
            return torch.rand(self._count, *shape, device=self._device)
        return self._next(shape).float().to(self._device)

    def normal(self, *shape: int) -> torch.Tensor:
        """[images, *shape]."""
        if self._numbers is None:
            return torch.randn(self._count, *shape, device=self._device)
        return (torch.erfinv(2 * self._next(shape) - 1) * math.sqrt(2)).float().to(self._device)

    def _next(self, shape: tuple[int, ...]) -> torch.Tensor:
        assert self._numbers is not None
        first, self._used = self._used, self._used + math.prod(shape)
        return self._numbers[:, first : self._used].reshape(self._count, *shape)


NUMBERS = 85
"""How many of them ``distort`` takes."""


def distort(
    images: torch.Tensor, strength: float = 1.0, erase: float = 0.3, draws: Draws | None = None
) -> torch.Tensor:
    """A random affine map, elastic warp, stroke width and erased box for each image.

    ``strength`` scales all ranges; ``erase`` is the share of images with an erased box (Zhong et al. 2017).
    """
    draws = draws or Draws(images)
    grid = _affine(images, strength, draws) + _elastic(0.08 * strength, draws)
    return _erased(_stroke(_sample(images, grid), 0.5 * strength, draws), erase, draws)


def _sample(images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    return F.grid_sample(images, grid, align_corners=False)


def _uniform(draws: Draws, bound: float) -> torch.Tensor:
    return (draws.uniform() * 2 - 1) * bound


def _affine(images: torch.Tensor, strength: float, draws: Draws) -> torch.Tensor:
    """Rotation to 15 degrees, scale by 15% an axis, shear to 0.25, shift by a tenth of the half width."""
    angle = _uniform(draws, math.radians(15) * strength)
    scale_x, scale_y = _uniform(draws, 0.15 * strength).exp(), _uniform(draws, 0.15 * strength).exp()
    shear, cos, sin = _uniform(draws, 0.25 * strength), angle.cos(), angle.sin()
    rows = [
        cos * scale_x,
        (shear * cos - sin) * scale_y,
        _uniform(draws, 0.1 * strength),
        sin * scale_x,
        (shear * sin + cos) * scale_y,
        _uniform(draws, 0.1 * strength),
    ]
    return F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), align_corners=False)


def _elastic(sigma: float, draws: Draws) -> torch.Tensor:
    """Smooth random displacements (Simard et al. 2003), from a 6 x 6 lattice."""
    lattice = draws.normal(2, 6, 6) * sigma
    field = F.interpolate(lattice, size=SIZE, mode="bicubic", align_corners=True)
    return field.permute(0, 2, 3, 1)


def _stroke(images: torch.Tensor, bound: float, draws: Draws) -> torch.Tensor:
    """Blend with the dilated or the eroded image: thicker or thinner strokes."""
    amount = draws.uniform(1, 1, 1) * min(bound, 1.0)
    thicker = draws.uniform(1, 1, 1) < 0.5
    dilated, eroded = F.max_pool2d(images, 3, 1, 1), -F.max_pool2d(-images, 3, 1, 1)
    return images + amount * (torch.where(thicker, dilated, eroded) - images)


def _erased(images: torch.Tensor, share: float, draws: Draws) -> torch.Tensor:
    """Blank a box of 4 to 12 pixels a side in a share of the images."""
    chosen = (draws.uniform(1, 1) < share).float()
    position = torch.arange(float(SIZE), device=images.device).view(1, SIZE)

    def inside() -> torch.Tensor:
        centre, half = draws.uniform(1) * SIZE, 2 + draws.uniform(1) * 4
        return ((position - centre).abs() < half).float()

    box = inside().unsqueeze(2) * inside().unsqueeze(1)
    return images * (1 - chosen * box).unsqueeze(1)
