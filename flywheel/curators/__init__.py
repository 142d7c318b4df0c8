"""Curators: see ``flywheel.protocols.Curator``."""

from __future__ import annotations

from flywheel.curators.confident import Confident
from flywheel.curators.curriculum import Curriculum

__all__ = ["Confident", "Curriculum"]
