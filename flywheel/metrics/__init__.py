"""Metrics: the outcomes of a suite as named values with intervals."""

from __future__ import annotations

from flywheel.metrics.calibration import brier_score as brier_score
from flywheel.metrics.calibration import temperature as temperature
from flywheel.metrics.intervals import mean_interval, reach
from flywheel.metrics.suites import Mean, Reach

__all__ = ["Mean", "Reach", "mean_interval", "reach"]
