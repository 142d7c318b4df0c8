"""A self-improving training loop: train, generate, grade, tune, and promote on evidence.

    run = flywheel.run({"recipe": "mnist"})
    model = run.champion().load()

The names below are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flywheel.api import Run, open_run, run
    from flywheel.config.space import tunable
    from flywheel.keys import Key, Keys
    from flywheel.metrics import Mean, Reach
    from flywheel.records import Decontaminate, Exhaustible, Role, Suite

__version__ = "0.1.0"
__all__ = [
    "Decontaminate",
    "Exhaustible",
    "Key",
    "Keys",
    "Mean",
    "Reach",
    "Role",
    "Run",
    "Suite",
    "__version__",
    "open_run",
    "run",
    "tunable",
]
_HOMES = {"Key": "keys", "Keys": "keys", "Mean": "metrics", "Reach": "metrics"}
_HOMES |= {
    "Decontaminate": "records",
    "Exhaustible": "records",
    "Role": "records",
    "Suite": "records",
    "tunable": "config.space",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        return getattr(import_module(f"flywheel.{_HOMES.get(name, 'api')}"), name)
    raise AttributeError(f"module 'flywheel' has no attribute {name!r}")
