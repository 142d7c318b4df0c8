"""Tuners choose the settings of a generation.

A tuner is an object with ``tune(attempt, settings, init, carry) -> (settings, init, carry)``:
``attempt(settings, fidelity)`` fits a candidate for that share of its steps and scores it on the dev
suites; ``settings`` and ``init`` are those in force.
"""
