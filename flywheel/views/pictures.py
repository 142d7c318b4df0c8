"""Pictures of arrays and of images in columns, as PNG, without a library for it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LARGEST = 512
"""Most pixels on a side of a picture of an array; larger ones are thinned."""
LARGEST_BYTES = 512 * 1024
"""Encoded images that are larger are not shown: a report has many."""
SMALLEST = 8
"""An array with fewer numbers on a side is text."""
_BAR_HEIGHT = 24
_GREY, _RGB, _RGBA = 0, 2, 6  # colour types of PNG
_MEDIA_TYPES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}


@dataclass(frozen=True, eq=False)
class Picture:
    """An image of a sample."""

    data: bytes
    """PNG, JPEG, GIF or WebP."""
    alt: str = ""
    """What it is, for those who do not see it, e.g. the name of its column."""
    pixels: np.ndarray | None = None
    """uint8, [H, W] or [H, W, 3 or 4]; None of an image that came encoded."""

    @property
    def media_type(self) -> str:
        """E.g. ``image/png``. Raises ValueError if the data is no image that browsers show."""
        kind = media_type(self.data)
        if kind is None:
            raise ValueError(f"Expected a PNG, JPEG, GIF or WebP image, got bytes {self.data[:8]!r}.")
        return kind

    @classmethod
    def of(cls, array: Any, alt: str = "") -> Picture:
        """A picture of an array [H, W] or [H, W, 3 or 4]: uint8, bools, or floats in [0, 1].

        [1, H, W] and [3 or 4, H, W] will do, too. Raises ValueError for another shape, type or value.
        """
        pixels = _thinned(_pixels(np.asarray(array)))
        return cls(png(pixels), alt, pixels)


def media_type(data: bytes) -> str | None:
    """What kind of image some bytes are, by their beginning; None: none that browsers show."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MEDIA_TYPES.items() if data.startswith(magic)), None)


def picture_of_column(name: str, value: Any) -> Picture | None:
    """A picture of a column's value by itself; None: it is better shown as text.

    Bytes of an image, alone or as ``{"bytes": ...}``, are that image. Lists of numbers are an image if they
    have the shape of one, [H, W], [H, W, 3 or 4] or flat a square's, and other flat ones of floats are drawn
    as columns, one a number. Numbers are shown from their least to their largest, but whole ones up to 255
    and those in [0, 1] as they are. Other whole numbers, as of tokens, are text.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes")
    if isinstance(value, (bytes, bytearray)):
        is_shown = len(value) <= LARGEST_BYTES and media_type(bytes(value)) is not None
        return Picture(bytes(value), name) if is_shown else None
    array = _numbers(value)
    if array is None or array.size == 0:
        return None
    if array.ndim == 1:
        return _picture_of_row(array, name)
    shape = _channels_last(array).shape
    is_image = (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))) and min(shape[:2]) >= SMALLEST
    return Picture.of(_scaled(array), name) if is_image else None


def _picture_of_row(array: np.ndarray, name: str) -> Picture | None:
    side = round(array.size**0.5)
    is_whole = array.dtype.kind in "iu"
    if is_whole and not _are_bytes(array):
        return None
    if side * side == array.size and side >= SMALLEST:
        return Picture.of(_scaled(array.reshape(side, side)), name)
    return None if is_whole or array.size < SMALLEST else Picture.of(_columns(array), name)


def png(pixels: np.ndarray) -> bytes:
    """Pixels, uint8 of shape [H, W] or [H, W, 3 or 4], as a PNG file (PNG specification, ISO 15948)."""
    height, width = pixels.shape[:2]
    kind = {1: _GREY, 3: _RGB, 4: _RGBA}[1 if pixels.ndim == 2 else pixels.shape[2]]
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # 0: a line without a filter
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _pixels(array: np.ndarray) -> np.ndarray:
    """As uint8, channels last. Raises ValueError."""
    array = _channels_last(array)
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not is_image or array.size == 0:
        raise ValueError(f"Expected an image [H, W], [H, W, 3] or [H, W, 4], got shape {list(array.shape)}.")
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind != "f" or not (array.min() >= 0 and array.max() <= 1):  # NaN is refused, too
        values = f"from {array.min()} to {array.max()}"
        raise ValueError(f"Expected an image of uint8 or of floats in [0, 1], got {array.dtype} {values}.")
    pixels: np.ndarray = np.rint(array * 255).astype(np.uint8)
    return pixels


def _channels_last(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (3, 4):
        array = np.moveaxis(array, 0, 2)
    last: np.ndarray = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return last


def _thinned(pixels: np.ndarray) -> np.ndarray:
    step = -(-max(pixels.shape[:2]) // LARGEST)
    thinned: np.ndarray = pixels[::step, ::step]
    return thinned


def _numbers(value: Any) -> np.ndarray | None:
    """A list of numbers, however nested, as an array; None if it is none, or uneven."""
    if not isinstance(value, (list, tuple, np.ndarray)):
        return None
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unequal lengths
        return None
    return array if array.dtype.kind in "biuf" else None


def _are_bytes(array: np.ndarray) -> bool:
    """Whether numbers are brightnesses from 0 to 255."""
    is_within = bool(array.min() >= 0 and 1 < array.max() <= 255)
    return is_within and bool((array == np.rint(array)).all())


def _scaled(array: np.ndarray) -> np.ndarray:
    """Numbers as floats in [0, 1]."""
    array = array.astype(float)
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if finite.size and _are_bytes(finite):
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scaled = (np.nan_to_num(array, nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1.0)
    clipped: np.ndarray = scaled.clip(0, 1)
    return clipped


def _columns(array: np.ndarray) -> np.ndarray:
    """Numbers as columns side by side, white on black, from zero or the least of them."""
    array = array[:: -(-array.size // LARGEST)]
    finite = array[np.isfinite(array)]
    low, high = (min(0.0, float(finite.min())), float(finite.max())) if finite.size else (0.0, 1.0)
    heights = (np.nan_to_num(array, nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1.0)
    levels = np.arange(_BAR_HEIGHT, 0, -1)[:, None] / _BAR_HEIGHT
    drawn: np.ndarray = heights[None, :] >= levels - 0.5 / _BAR_HEIGHT
    return drawn
