"""Views of samples on a terminal: text as it is, and pictures as half blocks, as far as a terminal can."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.text import Text

from flywheel.trackers.console import printable
from flywheel.views import Picture, View

_WIDTH, _HEIGHT = 48, 28
"""Most pixels of a picture, side by side and one above the other; two of the latter make a line."""
_SHADES = " ░▒▓█"
_BOTH_HALVES = "\N{UPPER HALF BLOCK}"


def lines_of(view: View, console: Console) -> RenderableType:
    """A view for a terminal: pictures first, in colour where there is any, else in five shades of grey.

    Pictures that come encoded need Pillow; without it they are named.
    """
    pictures = (_picture(picture, is_coloured=console.color_system is not None) for picture in view.pictures)
    return Group(*pictures, *([Text(printable(view.text))] if view.text else []))


def _picture(picture: Picture, *, is_coloured: bool) -> Text:
    pixels = picture.pixels if picture.pixels is not None else _decoded(picture.data)
    if pixels is None:
        return Text(
            f"[{printable(picture.alt or 'picture')}: {picture.media_type}, {len(picture.data)} bytes]"
        )
    step = max(1, -(-pixels.shape[1] // _WIDTH), -(-pixels.shape[0] // _HEIGHT))
    pixels = pixels[::step, ::step]
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, np.zeros_like(pixels[:1])])
    colours = pixels[..., :3] if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    rows = _coloured(colours) if is_coloured else _shaded(colours)
    return Text("\n").join(rows)


def _coloured(colours: np.ndarray) -> Iterator[Text]:
    """Two rows of pixels a line: the upper one as foreground, the lower one as background."""
    for upper, lower in zip(colours[::2].tolist(), colours[1::2].tolist(), strict=True):
        line = Text()
        for above, below in zip(upper, lower, strict=True):
            line.append(_BOTH_HALVES, f"rgb({_rgb(above)}) on rgb({_rgb(below)})")
        yield line


def _shaded(colours: np.ndarray) -> Iterator[Text]:
    """Two rows of pixels a line: a character by their mean brightness."""
    grey = colours.mean(2)
    means = (grey[::2] + grey[1::2]) / 2
    for row in np.rint(means / 255 * (len(_SHADES) - 1)).astype(int):
        yield Text("".join(_SHADES[level] for level in row).rstrip())


def _rgb(colour: list[int]) -> str:
    return ",".join(map(str, colour))


def _decoded(data: bytes) -> np.ndarray | None:
    """The pixels of an encoded image; None without Pillow, or if it is damaged."""
    import io

    try:
        from PIL import Image

        with Image.open(io.BytesIO(data)) as image:
            image.thumbnail((_WIDTH, _HEIGHT))
            return np.asarray(image.convert("RGB"))
    except Exception:  # ImportError, and whatever a hostile file makes it raise
        return None
