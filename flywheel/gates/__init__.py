"""Gates: see ``flywheel.protocols.Gate``."""
