"""Curators: see ``flywheel.protocols.Curator``."""
