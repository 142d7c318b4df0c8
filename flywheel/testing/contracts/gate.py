"""The contract of a gate: what it promotes, and how often by chance."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from flywheel.gates.evidence import FixedEvidence
from flywheel.keys import Key
from flywheel.records import Differences, Role, Suite
from flywheel.runtime.data import Data
from flywheel.stages import table as stages
from flywheel.storage.accountant import decide
from flywheel.tables import OUTCOMES, constant
from flywheel.testing.contracts.bench import Bench, bench_of, given, rule
from flywheel.testing.contracts.parts import check_carry_kept

_SUITE = "gate"


def check_gate(gate: Any, *, level: float = 0.05, items: int = 400, simulations: int = 400) -> None:
    """Check a gate: ties, a clear win and a clear loss of ``items`` items, and its errors by chance.

    Also with items in clusters of very different sizes, which are won or lost as a whole, and with items that
    gain a little or, seldom, lose nearly all: often none of these losses is among the items.

    At most a share ``level`` of ``simulations`` candidates that are as good as their champion may be promoted
    at that level, up to three standard errors.
    """
    with bench_of(given(gate=gate)) as bench:
        check_gate_on(bench, level, items, simulations)


def check_gate_on(bench: Bench, level: float = 0.05, items: int = 400, simulations: int = 400) -> None:
    """Check the gate of a bench; its data give way to a suite of ``items`` items."""
    bench.tools.data = Data(bench.data.human, {_SUITE: Suite(_SUITE, Role.GATE, _items(items))})
    rng = Key.root(0)("gate contract").numpy()
    some = (rng.random(items) < 0.7).astype(float)
    share = rng.random(items)
    ones = np.ones(items)
    cases = {
        "an identical candidate": (some, some, False),
        "an identical candidate with fractional scores": (share, share, False),
        "a candidate with as many wins as losses": (some, some[::-1], False),
        "a clear win": (ones, some, True),
        "a clear loss": (some, ones, False),
    }
    alone, one_large = np.arange(items), np.maximum(np.arange(items) - items * 9 // 10, 0)
    most = (one_large > 0).astype(float)  # lost in one cluster of nine tenths of all items, won in all others
    clustered = {"a loss of most items that wins most clusters": (most, 1 - most, False)}
    for name, (candidate, champion, expected) in {**cases, **clustered}.items():
        promote = _promotes(bench, level, candidate, champion, one_large if name in clustered else alone)
        expectation = "must promote" if expected else "must never promote"
        rule(promote is expected, f"A gate {expectation} {name} ({items} items); it answered {promote}.")
    check_error_rate(bench, level, items, simulations)


def check_error_rate(bench: Bench, level: float, items: int, simulations: int) -> None:
    """Under the null, candidates are promoted at a rate of ``level``, up to three standard errors."""
    part = bench.components.build("gate", bench.components.settings())
    alone, sizes = np.arange(items), np.unique(np.geomspace(1, items, 20).astype(int))
    large = -math.log(level) / 2 / items  # so rare that with a chance of sqrt(level) no item has one
    for name, clusters, draw in (
        ("independent items", alone, _by_chance),
        ("items in clusters", np.repeat(np.arange(len(sizes)), sizes), _by_chance),
        ("rare large losses", alone, partial(_rarely_lost, large)),
    ):
        _check_errors(part, level, clusters, simulations, name, draw)


def _by_chance(clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Differences of clusters that are won, lost or drawn by chance."""
    candidate, champion = (rng.random((2, clusters)) < 0.7).astype(float)
    differences: np.ndarray = candidate - champion
    return differences


def _rarely_lost(share: float, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Differences with a mean of 0: a share of the clusters loses much, all others gain a little."""
    return np.where(rng.random(clusters) < share, share - 1, share)


def _check_errors(
    part: Any,
    level: float,
    clusters: np.ndarray,
    simulations: int,
    name: str,
    draw: Callable[[int, np.random.Generator], np.ndarray],
) -> None:
    """Candidates that are no better, ``draw`` says how: each cluster as a whole."""
    rng = Key.root(1)("gate contract").numpy()
    promoted = 0
    for k in range(simulations):
        differences = Differences(draw(clusters.max() + 1, rng)[clusters], clusters)
        result, _ = part.test(FixedEvidence({_SUITE: differences}), level, {}, Key.root(k)("gate"))
        promoted += decide(result, level).promote
    limit = level + 3 * math.sqrt(level * (1 - level) / simulations)
    rule(
        promoted <= limit * simulations,
        f"A gate must promote no more than {level:.3g} of the candidates that are no better, here at most "
        f"{limit:.3g} of {simulations} with {name}; it promoted {promoted / simulations:.3g}. Test against "
        "chance, cluster by cluster, for any distribution with a mean of 0.",
    )


def _promotes(
    bench: Bench, level: float, candidate: np.ndarray, champion: np.ndarray, clusters: np.ndarray
) -> bool:
    tables = _stored(bench, candidate, clusters), _stored(bench, champion, clusters)
    done = bench.twice(stages.gate, candidate=tables[0], champion=tables[1], level=level)
    check_carry_kept("gate", done)
    return bool(done.facts.verdict.promote)


def _stored(bench: Bench, scores: np.ndarray, clusters: np.ndarray) -> str:
    names = {"suite": _SUITE, "subject": "a test", "opponent": None}
    columns = {name: constant(value, pa.string(), len(scores)) for name, value in names.items()}
    items = _items(len(scores))["item"]
    groups = pa.array([f"cluster-{k}" for k in clusters])
    outcomes = pa.table({**columns, "item": items, "cluster": groups, "score": scores})
    return bench.store.put_table(outcomes.select(OUTCOMES.names).cast(OUTCOMES))


def _items(count: int) -> pa.Table:
    return pa.table({"item": [f"item-{k}" for k in range(count)]})
