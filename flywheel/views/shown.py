"""From a sample to its view: what a task's ``show`` returned, or what its columns say by themselves."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from html.parser import HTMLParser
from typing import Any

import numpy as np

from flywheel.tables import RESERVED
from flywheel.views.pictures import LARGEST_BYTES, Picture, picture_of_column
from flywheel.views.view import Html, View

LONGEST_TEXT = 4000
"""Characters of a view's text; the rest is cut."""
LONGEST_HTML = 256 * 1024
_UNSHOWN = (RESERVED - {"prompt"}) | {"audited"}
"""What the loop says of a sample is shown beside it, not in it."""


def view_of(sample: Mapping[str, Any], task: Any = None) -> View:
    """How to show a sample, a row of ``samples`` as a dict.

    By the task's ``show``, if it has one that returns something: see ``flywheel.protocols.Task``. An error in
    it becomes the view. Without it by the columns.
    """
    show = getattr(task, "show", None)
    if show is None:
        return view_of_columns(sample)
    try:
        shown = show(dict(sample))
        return view_of_columns(sample) if shown is None else _view(shown)
    except Exception as error:  # of the recipe's code, or what it returned: it costs this view, not the page
        return View(_cut(f"show() failed: {type(error).__name__}: {error}"), is_failed=True)


@dataclass(frozen=True)
class Viewer:
    """Shows the samples of a run: ``viewer(sample)`` is its view."""

    task: Any = None
    why: str = ""
    """Why the recipe's own ``show`` is not asked, if it is not; empty where there is none."""

    def __call__(self, sample: Mapping[str, Any]) -> View:
        """The view of a row of ``samples`` as a dict."""
        return view_of(sample, self.task)


def view_of_columns(sample: Mapping[str, Any]) -> View:
    """Pictures of arrays and images, and the other columns as text, a line each: ``name: value``."""
    lines, pictures = [], []
    for name, value in sample.items():
        if name in _UNSHOWN:
            continue
        if (picture := picture_of_column(name, value)) is not None:
            pictures.append(picture)
        elif value is not None:
            lines.append(f"{name}: {_value_text(value)}")
    return View(_cut("\n".join(lines)), tuple(pictures))


def _view(shown: Any) -> View:
    """What ``show`` returned, or a part of it, as a view. Raises TypeError or ValueError."""
    if isinstance(shown, View):
        return replace(shown, pictures=tuple(map(_checked, shown.pictures)))
    if isinstance(shown, Html):
        return _of_html(shown)
    if isinstance(shown, str):
        return View(_cut(shown))
    if isinstance(shown, Picture):
        return View(pictures=(_checked(shown),))
    if isinstance(shown, (tuple, list)):
        return _joined([_view(part) for part in shown])
    if isinstance(shown, bytes):
        return _of_bytes(shown)
    if hasattr(shown, "__array_interface__") or hasattr(shown, "detach"):  # NumPy, PIL; torch
        return View(pictures=(Picture.of(_array(shown)),))
    return _of_object(shown)


def _joined(views: list[View]) -> View:
    """Several views as one, in order; texts beside HTML become HTML."""
    has_html = any(view.html is not None for view in views)
    html = [view.html or f"<pre>{escape(view.text)}</pre>" for view in views if view.html or view.text]
    return View(
        "\n".join(view.text for view in views if view.text),
        tuple(picture for view in views for picture in view.pictures),
        "".join(html) if has_html else None,
    )


def _of_object(shown: Any) -> View:
    """A plot, or what else a notebook shows.

    An Altair chart and a matplotlib figure save themselves as PNG; others have ``_repr_png_`` or
    ``_repr_html_`` (IPython's protocol for rich display). Raises TypeError if nothing of it is there.
    """
    is_chart = type(shown).__module__.partition(".")[0] == "altair"
    save = shown.save if is_chart else getattr(shown, "savefig", None)
    if save is not None:
        buffer = io.BytesIO()
        save(buffer, format="png")
        return _of_bytes(buffer.getvalue())
    for name, made in (("_repr_png_", _of_bytes), ("_repr_html_", _of_html)):
        method = getattr(shown, name, None)
        answer = method() if method is not None else None
        if answer is not None:
            return made(answer)
    if hasattr(shown, "__array__"):  # after a table's HTML
        return View(pictures=(Picture.of(_array(shown)),))
    raise TypeError(
        "Expected text, flywheel.views.Html, an image (array [H, W] or [H, W, 3], or PIL's), a plot, or a "
        f"tuple of these, got {type(shown).__module__}.{type(shown).__qualname__}."
    )


def _of_bytes(data: bytes) -> View:
    return View(pictures=(_checked(Picture(data)),))


def _checked(picture: Picture) -> Picture:
    """A picture that a page can have. Raises ValueError."""
    picture.media_type  # noqa: B018 - raises ValueError
    if picture.pixels is None and len(picture.data) > LARGEST_BYTES:
        raise ValueError(f"Expected an image of at most {LARGEST_BYTES} bytes, got {len(picture.data)}.")
    return picture


def _of_html(html: str) -> View:
    if len(html) > LONGEST_HTML:
        raise ValueError(f"Expected HTML of at most {LONGEST_HTML} characters, got {len(html)}.")
    return View(_cut(_text_in(html)), html=str(html))


def _array(shown: Any) -> np.ndarray:
    if hasattr(shown, "convert") and getattr(shown, "mode", "L") not in ("L", "RGB", "RGBA"):  # PIL's
        shown = shown.convert("RGB")
    if hasattr(shown, "detach"):  # torch's
        shown = shown.detach().cpu()
    return np.asarray(shown)


class _Texts(HTMLParser):
    """Collects the words of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in ("script", "style")))  # it may end what never began

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words += data.split()


def _text_in(html: str) -> str:
    """The words of HTML, for a terminal."""
    parser = _Texts()
    parser.feed(html)
    return " ".join(parser.words)


def _value_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_value_text(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value_text(inner) for inner in value) + "]"
    return str(value) if isinstance(value, (str, int, bool)) else json.dumps(value, default=str)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
