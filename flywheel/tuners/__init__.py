"""Tuners: see ``flywheel.protocols.Tuner``."""
