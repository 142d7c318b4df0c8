"""For tests of the project and of recipes outside it: a recipe that turns in well under a second."""

from pathlib import Path

CONFIG_DIR = str(Path(__file__).parent / "conf")
"""Give this as ``--config-dir`` to use ``recipe=moons``."""
