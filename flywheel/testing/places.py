"""Where the recipe for tests lies."""

from __future__ import annotations

from pathlib import Path

CONFIG_DIR = str(Path(__file__).parent / "moons" / "conf")
"""Give this as ``--config-dir`` to use ``recipe=moons``."""
