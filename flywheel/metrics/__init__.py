"""Metrics: a suite"s scores as a number with its interval."""

from __future__ import annotations

from flywheel.metrics.intervals import mean_interval, reach

__all__ = ["mean_interval", "reach"]
