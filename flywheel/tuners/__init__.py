"""Tuners: see ``flywheel.protocols.Tuner``."""

from __future__ import annotations

from flywheel.tuners.fixed import Fixed
from flywheel.tuners.optuna import Optuna
from flywheel.tuners.random import Random

__all__ = ["Fixed", "Optuna", "Random"]
