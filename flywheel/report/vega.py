"""The JavaScript that draws charts: Vega, Vega-Lite and Vega-Embed in one, from the package vl-convert.

To bundle it takes two seconds, so it is kept in the user's cache folder, under the version that made it.
"""

from __future__ import annotations

import contextlib
from importlib.metadata import version
from pathlib import Path

from flywheel.errors import MissingExtra
from flywheel.storage import files


def javascript() -> str:
    """A script that sets ``vegaEmbed``; it loads nothing. Raises MissingExtra."""
    try:
        import vl_convert
    except ImportError as error:
        raise MissingExtra("vl-convert", "report") from error
    path = _folder() / f"vega-{version('vl-convert-python')}.js"
    with contextlib.suppress(OSError, ValueError):
        text = path.read_text("utf-8")
        if text.endswith(_END):
            return text
    text = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;") + _END
    if "</script" in text.lower():
        raise RuntimeError("Expected a bundle that can stand in a page; it has </script in it.")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, text.encode())
    return text


_END = "\n/* end of bundle */\n"


def _folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("flywheel", appauthor=False))
