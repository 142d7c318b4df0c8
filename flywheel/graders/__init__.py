"""Graders: see ``flywheel.protocols.Grader``."""
