"""Gates decide on promotion from paired differences.

A gate is an object with ``decide(pull, suites, carry, key) -> (Verdict, carry)``, where
``pull(suite, n)`` gives the paired differences, in [-1, 1], of the suite's first n clusters (None:
all), candidate over champion. It never sees a model, an item or a mean.
"""
