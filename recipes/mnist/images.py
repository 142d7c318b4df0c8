"""Batches of images ``[batch, 1, 28, 28]`` in [0, 1]: deskewing once, random distortion at each step."""

from __future__ import annotations

import math

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


def distort(images: torch.Tensor, strength: float = 1.0, erase: float = 0.3) -> torch.Tensor:
    """A random affine map, elastic warp, stroke width and erased box for each image.

    ``strength`` scales all ranges; ``erase`` is the share of images with an erased box (Zhong et al. 2017).
    """
    grid = _affine(images, strength) + _elastic(images, 0.08 * strength)
    return _erased(_stroke(_sample(images, grid), 0.5 * strength), erase)


def _sample(images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    return F.grid_sample(images, grid, align_corners=False)


def _uniform(images: torch.Tensor, bound: float) -> torch.Tensor:
    return (torch.rand(len(images), device=images.device) * 2 - 1) * bound


def _affine(images: torch.Tensor, strength: float) -> torch.Tensor:
    """Rotation to 15 degrees, scale by 15% an axis, shear to 0.25, shift by a tenth of the half width."""
    angle = _uniform(images, math.radians(15) * strength)
    scale_x, scale_y = _uniform(images, 0.15 * strength).exp(), _uniform(images, 0.15 * strength).exp()
    shear, cos, sin = _uniform(images, 0.25 * strength), angle.cos(), angle.sin()
    rows = [
        cos * scale_x,
        (shear * cos - sin) * scale_y,
        _uniform(images, 0.1 * strength),
        sin * scale_x,
        (shear * sin + cos) * scale_y,
        _uniform(images, 0.1 * strength),
    ]
    return F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), align_corners=False)


def _elastic(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Smooth random displacements (Simard et al. 2003), from a 6 x 6 lattice."""
    lattice = torch.randn(len(images), 2, 6, 6, device=images.device) * sigma
    field = F.interpolate(lattice, size=SIZE, mode="bicubic", align_corners=True)
    return field.permute(0, 2, 3, 1)


def _stroke(images: torch.Tensor, bound: float) -> torch.Tensor:
    """Blend with the dilated or the eroded image: thicker or thinner strokes."""
    amount = torch.rand(len(images), 1, 1, 1, device=images.device) * min(bound, 1.0)
    thicker = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    dilated, eroded = F.max_pool2d(images, 3, 1, 1), -F.max_pool2d(-images, 3, 1, 1)
    return images + amount * (torch.where(thicker, dilated, eroded) - images)


def _erased(images: torch.Tensor, share: float) -> torch.Tensor:
    """Blank a box of 4 to 12 pixels a side in a share of the images."""
    n, device = len(images), images.device
    chosen = (torch.rand(n, 1, 1, device=device) < share).float()
    position = torch.arange(float(SIZE), device=device).view(1, SIZE)

    def inside() -> torch.Tensor:
        centre, half = torch.rand(n, 1, device=device) * SIZE, 2 + torch.rand(n, 1, device=device) * 4
        return ((position - centre).abs() < half).float()

    box = inside().unsqueeze(2) * inside().unsqueeze(1)
    return images * (1 - chosen * box).unsqueeze(1)
