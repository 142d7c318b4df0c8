"""Graders score samples.

A grader is an object with ``grade(samples, lend) -> columns``: ``samples`` is the whole table, groups
included; ``lend()`` gives the parent model in evaluation mode; the result has one value a row.
"""
