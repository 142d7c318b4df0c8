"""What the loop relies on at each seam of ``flywheel.protocols``, as functions to call from a test.

They run the loop's own stages on real artifacts. What a stage refuses is raised as in a run (DataError,
StageFailed, ...); what the loop can only trust, and a test can check, is raised as ContractBroken.
"""
