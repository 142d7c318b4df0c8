"""Text of recipes, models and people on a terminal: as it was written, but without control characters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
FILE_WIDTH = 240
"""Columns of a table that goes into a file."""


def printable(text: object) -> str:
    """The text without control characters, such as the escape that begins a command to clear the screen."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def plain_console(**options: Any) -> Console:
    """A rich console that takes no text for its markup: ``[INST]`` and ``:smile:`` stay as they are."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, **options)


def wide_console() -> Console:
    """Where tables are printed: as wide as the terminal, or in a file as wide as they like."""
    console = plain_console()
    return console if console.is_terminal else plain_console(width=FILE_WIDTH, soft_wrap=True)
