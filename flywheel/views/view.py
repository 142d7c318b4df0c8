"""A view of a sample, and it as HTML that is safe in any page, whatever the sample and the recipe hold."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape

from flywheel.views.pictures import Picture

STYLE = """
.view-text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.view-text.failed { border-left: 3px solid currentColor; padding-left: .5em; }
.view-picture { display: block; max-width: 100%; height: auto; image-rendering: pixelated; }
.view-frame { display: block; width: 100%; height: 10em; border: 1px solid #8888; resize: vertical; }
""".strip()
"""Rules for the classes that ``html_of`` uses."""
_SCALED_TO = 96
"""Pixels on a page of the shorter side of small pictures."""
_FRAME = (
    '<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="'
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
    '<meta name="color-scheme" content="light dark">'
    "<style>body { margin: .5em; font: 14px/1.4 system-ui, sans-serif }</style>"
)


class Html(str):
    """HTML that a task's ``show`` returns. Escape what comes from samples (``html.escape``).

    It is shown in a frame of its own, in which no script runs and nothing is loaded; styles and images as
    ``data:`` work.
    """

    __slots__ = ()


@dataclass(frozen=True)
class View:
    """What a person sees of a sample. Texts are as the sample has them: whoever prints one cleans it."""

    text: str = ""
    pictures: tuple[Picture, ...] = ()
    html: str | None = None
    """Of the recipe's author: for a sandbox only, as ``html_of`` makes one."""
    is_failed: bool = False
    """Whether ``show`` raised; ``text`` says what."""

    def _repr_html_(self) -> str:
        """In a notebook."""
        return f"<style>{STYLE}</style>{html_of(self)}"


def html_of(view: View, title: str = "sample") -> str:
    """A view as HTML: text escaped, pictures as ``data:``, the recipe's own HTML in a sandboxed frame.

    In the frame no script runs, nothing is loaded and no form or link leaves it. ``title`` names it, and
    pictures that have no name, for screen readers. The classes are those of ``STYLE``.
    """
    parts = [_picture_html(picture, title) for picture in view.pictures]
    if view.html is not None:
        source = escape(_FRAME + view.html, quote=True)
        name = escape(title, quote=True)
        parts.append(
            f'<iframe class="view-frame" sandbox loading="lazy" title="{name}" srcdoc="{source}"></iframe>'
        )
    elif view.text:
        failed = " failed" if view.is_failed else ""
        parts.append(f'<pre class="view-text{failed}">{escape(view.text)}</pre>')
    return "".join(parts)


def _picture_html(picture: Picture, title: str) -> str:
    size = ""
    if picture.pixels is not None:
        height, width = picture.pixels.shape[:2]
        times = max(1, _SCALED_TO // max(1, min(height, width)))
        size = f' width="{width * times}" height="{height * times}"'
    data = base64.b64encode(picture.data).decode()
    alt = escape(picture.alt or title, quote=True)
    return f'<img class="view-picture" alt="{alt}"{size} src="data:{picture.media_type};base64,{data}">'
