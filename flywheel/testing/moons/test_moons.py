"""The recipe does what the loop relies on."""

from pathlib import Path

from flywheel.testing import check_recipe

HERE = Path(__file__).parent


def test_contract() -> None:
    """Every seam, and a run of one generation."""
    check_recipe(HERE.name, config_dir=HERE / "conf")
