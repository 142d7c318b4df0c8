"""The built-in recipes, importable as ``flywheel.recipes.NAME``.

In a wheel they lie in this folder. In a checkout, also when installed as editable, they lie in the
top-level ``recipes/``, which is added to the package's path, so that a ``_target_`` reads the same.
"""

from pathlib import Path

_checkout = Path(__file__).resolve().parents[2]
if (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout / "recipes"))
