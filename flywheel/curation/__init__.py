"""Curators decide which samples a candidate trains on.

A curator is an object with ``curate(samples, carry) -> (decisions, carry)``: ``samples`` is one table
of all rows it may use, from the human ones over earlier generations' to the newest, with the
graders' columns (null where not graded); the decisions are as in ``flywheel.records``, row for row.
"""
