"""Curators: see ``flywheel.protocols.Curator``."""

from __future__ import annotations

from flywheel.curators.confident import Confident
from flywheel.curators.curriculum import Curriculum
from flywheel.curators.pipeline import Dedupe, Pipeline, Step, Threshold

__all__ = ["Confident", "Curriculum", "Dedupe", "Pipeline", "Step", "Threshold"]
