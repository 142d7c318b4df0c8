"""A self-improving training loop: train, generate, grade, tune, and promote on evidence.

    run = flywheel.run({"recipe": "mnist"})
    model = run.champion().load()

The names below are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flywheel.api import Run, open_run, run

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "open_run", "run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from flywheel import api

        return getattr(api, name)
    raise AttributeError(f"module 'flywheel' has no attribute {name!r}")
