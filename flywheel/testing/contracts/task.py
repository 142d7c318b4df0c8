"""The contract of a task, and with it of its model."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from msgspec.structs import replace

from flywheel.keys import Key, Keys
from flywheel.records import Role, Start, Suite
from flywheel.runtime.data import read_data
from flywheel.runtime.weights import take_weights, without_gradients
from flywheel.stages import table as stages
from flywheel.stages.generate import draw_prompts
from flywheel.storage.state import Generation
from flywheel.tables import as_table
from flywheel.testing.contracts.bench import Bench, bench_of, given, rule
from flywheel.views import view_of


def check_task(task: Any, model: Any, settings: Mapping[str, Any] | None = None) -> None:
    """Check a task with an untrained model: data, samples, scores, and fits of two steps.

    ``settings``: those that the task's ``generate`` and ``data`` look up.
    """
    with bench_of(given(settings or {}, task=task, model=model)) as bench:
        check_task_on(bench)


def check_task_on(bench: Bench) -> list[str]:
    """Check the task of a bench; return the samples of two generations."""
    check_reading(bench)
    champion, task, size = bench.champion(), bench.components.task, bench.components.resolved["chunk_size"]
    bench.components.task = watched = Watched(task, bench.components.resolved["trainer"])
    samples = [check_samples(bench, watched, champion, generation) for generation in (1, 2)]
    for suite in bench.data.suites.values():
        check_scores(bench, watched, champion, suite)
    bench.components.task, bench.components.resolved["chunk_size"] = task, size
    human = [bench.human()] if len(bench.data.human) else []
    for batch in ([bench.data.human] if human else []) + [bench.store.table(name) for name in samples]:
        check_show(task, batch)
    for rows in (human, [*human, [samples[0], None, None]]):
        if rows:
            bench.twice(stages.train, **bench.corpus(rows), start=Start("fresh"))
    return samples


def check_reading(bench: Bench) -> None:
    """A resumed run reads the seed samples and suites again, so they must be the same."""
    again = read_data(bench.components.task, needs_seed=False)
    first, second = bench.data.identity, again.identity
    differ = [name for name in first if second.get(name) != first[name]]
    rule(
        not differ,
        "seed() and suites() must give the same rows on every call, or no run can be resumed; "
        f"{', '.join(differ)} differ. Seed what is drawn from the task's own arguments.",
    )


def check_samples(bench: Bench, task: Watched, champion: Generation, generation: int) -> str:
    """Generate in units, the last of one row (which breaks code that squeezes); return the samples."""
    prompts = draw_prompts(task, generation, {}, Key.root(0), None)
    bench.components.resolved["chunk_size"] = max(1, len(prompts) - 1)
    outputs = bench.twice(stages.generate, generation=generation, parent=champion)
    task.check_order()
    return outputs.outputs["samples"]


def check_scores(bench: Bench, task: Watched, champion: Generation, suite: Suite) -> None:
    """Evaluate on a suite, in units of which the last has one item."""
    bench.components.resolved["chunk_size"] = max(1, len(suite.items) - 1)
    data = bench.tools.data
    dev = {} if suite.role == Role.DEV else {s.name: s for s in data.suites.values() if s.role == Role.DEV}
    bench.tools.data = replace(data, suites={**dev, suite.name: suite})
    stage = replace(stages.evaluate, sees=(suite.role,))
    bench.twice(stage, weights=str(champion.weights), opponent=champion)
    bench.tools.data = data
    task.check_order()


def check_show(task: Any, samples: pa.Table) -> None:
    """Show a few samples, if the task says how: no error, and no random number of the run's is drawn."""
    if not hasattr(task, "show"):
        return
    before = _generators()
    for sample in samples.slice(0, 3).to_pylist():
        view = view_of(sample, task)
        rule(not view.is_failed, f"show() must show what seed() and generate() give: {view.text}")
    rule(
        _generators() == before,
        "show() must not draw from a global generator, as it may be called while a fit is on. Give it a "
        "generator of its own.",
    )


def _generators() -> tuple[str, ...]:
    return tuple(map(repr, (random.getstate(), np.random.get_state(), torch.get_rng_state().tolist())))


class Watched:
    """A task that hands every call on, and watches those that are given a model."""

    def __init__(self, task: Any, trainer: Mapping[str, Any]) -> None:
        self._task, self._trainer = task, trainer
        self.calls: list[tuple[str, tuple[Any, ...], Any]] = []
        self._calibrated: dict[int, tuple[Any, Any]] = {}
        """By its id, what is evaluated in place of a model, and that model."""

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._task, name)  # first, so that a task without calibrate() has none here
        return self._calibrate if name == "calibrate" else attribute

    def _calibrate(self, model: Any, dev: Mapping[str, pa.Table]) -> Any:
        scored = self._task.calibrate(model, dev)
        self._calibrated[id(scored)] = (scored, model)
        return scored

    def generate(self, model: Any, prompts: pa.Table, settings: Any, keys: Keys) -> Any:
        """The task's answer."""
        return self._call("generate", model, prompts, settings, keys)

    def evaluate(self, model: Any, opponent: Any, items: pa.Table, keys: Keys) -> Any:
        """The task's answer."""
        return self._call("evaluate", model, opponent, items, keys)

    def check_order(self) -> None:
        """Units go to whatever rank, so none may depend on those before; forget the calls."""
        for name, arguments, answer in reversed(self.calls):
            arguments[-1].seed_globals()
            with without_gradients(self._trainer):
                again = getattr(self._task, name)(*arguments)
            rule(
                _same(again, answer),
                f"{name}() must not depend on the calls before it, since ranks share the units; called "
                "in reverse order it answers otherwise. Keep no state, and draw from `keys`.",
            )
        self.calls.clear()

    def _call(self, name: str, model: Any, *more: Any) -> Any:
        _, module = self._calibrated.get(id(model), (model, model))
        before = take_weights(module)
        answer = getattr(self._task, name)(model, *more)
        after = take_weights(module)
        changed = [key for key in before if not torch.equal(before[key], after[key])]
        rule(
            not changed and not module.training,
            f"{name}() must leave the model as it is; it changed {', '.join(changed) or 'its mode'}. "
            "The model comes in evaluation mode: do not train it or call train() on it.",
        )
        self.calls.append((name, (model, *more), answer))
        return answer


def _same(one: Any, two: Any) -> bool:
    if hasattr(one, "keys") or hasattr(one, "column_names"):
        return bool(as_table(one).equals(as_table(two)))
    return np.array_equal(np.asarray(one), np.asarray(two))
