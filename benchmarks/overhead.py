"""What the loop costs: a run against a bare loop with the same fits, generation and evaluation.

    python benchmarks/overhead.py                            # mnist and addition, 3 pairs each: 15 minutes
    python benchmarks/overhead.py --recipes mnist --pairs 5

The bare loop calls the recipe's own task, model, grader and curator and Lightning's Trainer, one after the
other, in one process, and keeps everything in memory: no ledger, store, gate, provenance or check. Both
run in turn, now one first, now the other, imports and data already loaded. Prints pair by pair the ratio
loop / bare loop, which differs by some percent from pair to pair where one fit does from the next; and two
shares of the run's wall time that hardly do. ``the loop's``: all but Lightning's fits and the task's
generation and evaluation; a bare loop would save no more. ``recording``: provenance, ids and
digests of samples, artifacts and ledger, written and synced.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import lightning
import pyarrow as pa
import torch
import yaml

from flywheel.runtime import fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["mnist", "addition"])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--generations", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the recipe")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    print("| recipe | pair | loop, s | bare, s | loop / bare | CPU, loop / bare | the loop's | recording |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for recipe in options.recipes:
        overrides = {"recipe": recipe, "generations": options.generations, "threads": options.threads}
        overrides |= {
            key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in options.set)
        }
        loop({**overrides, "debug": "tiny"})  # warm up both
        Bare({**overrides, "debug": "tiny"}).run()
        ratios = []
        for pair in range(options.pairs):
            theirs = Bare(overrides).run() if pair % 2 else None  # whoever is first is at a disadvantage
            *ours, own, recorded = loop(overrides)
            theirs = theirs or Bare(overrides).run()
            wall, cpu = (mine / yours for mine, yours in zip(ours, theirs, strict=True))
            ratios.append((wall, cpu))
            row = f"{ours[0]:.2f} | {theirs[0]:.2f} | {wall:.4f} | {cpu:.4f} | {own:.2%} | {recorded:.2%}"
            print(f"| {recipe} | {pair + 1} | {row} |", flush=True)
        wall, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
        print(f"| {recipe} | median | | | {wall:.4f} | {cpu:.4f} | | |", flush=True)


def loop(overrides: dict[str, Any]) -> tuple[float, float, float, float]:
    """Wall and CPU seconds of a run by the public API, and the shares of the loop and of recording."""
    import flywheel

    task = type(Bare(overrides).parts.build("task", {}))
    recipes = [(lightning.Trainer, "fit"), (task, "generate"), (task, "evaluate")]
    with (
        tempfile.TemporaryDirectory() as folder,
        timed(recipes) as recipe,
        timed([(fit._Watch, "on_train_batch_end")]) as steps,
        timed(recording()) as records,
    ):
        began = time.perf_counter(), time.process_time()
        run = flywheel.run({**overrides, "runs_dir": folder, "log": "quiet", "error_budget.alpha": 0.999})
        wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        assert run.status().state == "finished"
    return wall, cpu, 1 - (recipe.seconds - steps.seconds) / wall, records.seconds / wall


class Stopwatch:
    """Wall time inside functions, those that they call not counted again."""

    def __init__(self) -> None:
        self.seconds, self._inside = 0.0, False

    def around(self, function: Any) -> Any:
        @functools.wraps(function)
        def around(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return function(*args, **kwargs)
            self._inside, began = True, time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._inside = False
                self.seconds += time.perf_counter() - began

        return around


@contextlib.contextmanager
def timed(places: list[tuple[Any, str]]) -> Iterator[Stopwatch]:
    """Time all calls of these functions, each given by where it is looked up and its name."""
    watch = Stopwatch()
    with contextlib.ExitStack() as stack:
        for owner, name in places:
            stack.enter_context(patch.object(owner, name, watch.around(getattr(owner, name))))
        yield watch


def recording() -> list[tuple[Any, str]]:
    """All that only records: a bare loop would do without it."""
    from flywheel.runtime import data, runner
    from flywheel.stages import curate, generate
    from flywheel.storage import files, ids
    from flywheel.storage.ledger import Ledger
    from flywheel.storage.parquet import TableWriter
    from flywheel.storage.store import Store

    places = [(Ledger, "append"), (ids, "note"), (files, "publish"), (runner.StageRunner, "retain")]
    places += [(Store, name) for name in ("put", "put_weights", "put_json")]
    places += [(TableWriter, name) for name in ("write", "close")]
    places += [(generate, name) for name in ("stored", "matched", "with_provenance", "sketch", "to_bytes")]
    places += [(data, name) for name in ("stored", "with_provenance", "table_digest")]
    return [*places, (curate, "table_digest")]


class Bare:
    """The same work as a loop that anybody would write, with the recipe's own parts."""

    def __init__(self, overrides: dict[str, Any]) -> None:
        from flywheel.config.components import Components
        from flywheel.config.compose import compose, overrides_of

        self.parts = Components(compose(overrides_of(overrides)))
        self.generations: int = overrides["generations"]
        self.size: int = self.parts.resolved["chunk_size"]

    def run(self) -> tuple[float, float]:
        """Wall and CPU seconds."""
        from flywheel.keys import Key

        began = time.perf_counter(), time.process_time()
        task = self.parts.build("task", self.parts.settings())
        sealed = [suite.items for suite in task.suites() if str(suite.role) == "sealed"]
        opened = [suite.items for suite in task.suites() if str(suite.role) != "sealed"]
        human = with_columns(task.seed(), 0, "human")
        settings, carry = self.parts.settings(genesis=True), dict[str, Any]()
        batches = [human]
        model = first = self.fit(task, human, settings, carry, None)
        self.score(task, model, opened)
        settings = self.parts.settings()
        for generation in range(1, self.generations + 1):
            key = Key.root(0)(generation)
            prompts = task.prompts(generation, {"curator": carry}, key)
            keys = key.each(prompts["prompt"].to_pylist())
            units = [slice(k, k + self.size) for k in range(0, len(prompts), self.size)]
            with torch.inference_mode():
                made = [
                    as_table(task.generate(model, prompts.slice(u.start, self.size), settings, keys[u]))
                    for u in units
                ]
            samples = with_columns(pa.concat_tables(made), generation, "generated")
            grader = self.parts.build("grader", settings)
            scores = as_table(grader.grade(samples, functools.partial(lambda loaded: loaded, model), keys))
            for name in scores.column_names:
                samples = samples.append_column(name, scores[name])
            batches.append(samples)
            rows = pa.concat_tables(batches, promote_options="permissive")
            parent = model if str(self.parts.resolved["init"]) == "parent" else None
            model = self.fit(task, rows, settings, carry, parent)
            self.score(task, model, opened)
        self.score(task, first, sealed)
        self.score(task, model, sealed)
        return time.perf_counter() - began[0], time.process_time() - began[1]

    def fit(
        self, task: Any, rows: pa.Table, settings: dict[str, Any], carry: dict[str, Any], parent: Any
    ) -> Any:
        """A candidate; the curator's new carry is left in ``carry``."""
        from flywheel.keys import Key

        decisions, kept = self.parts.build("curator", settings).curate(rows, carry, Key.root(0))
        carry.update(kept)
        decided = as_table(decisions)
        chosen = decided["keep"].to_numpy() & (decided["count"].to_numpy() > 0)
        corpus = rows.append_column("weight", decided["weight"]).append_column("count", decided["count"])
        model = self.parts.model(settings)
        if parent is not None:
            model.load_state_dict(parent.state_dict())
        data = task.data(corpus.filter(pa.array(chosen)), settings)
        trainer = self.parts.build("trainer", settings)()
        if isinstance(data, lightning.LightningDataModule):
            trainer.fit(model, datamodule=data)
        else:
            trainer.fit(model, train_dataloaders=data)
        return model.eval()

    @torch.inference_mode()
    def score(self, task: Any, model: Any, suites: list[pa.Table]) -> list[float]:
        """Mean scores."""
        from flywheel.keys import Key

        chunks = [items.slice(k, self.size) for items in suites for k in range(0, len(items), self.size)]
        keys = [Key.root(0).each(chunk["item"].to_pylist()) for chunk in chunks]
        return [float(task.evaluate(model, None, *unit).mean()) for unit in zip(chunks, keys, strict=True)]


def as_table(columns: Any) -> pa.Table:
    return columns if isinstance(columns, pa.Table) else pa.table(dict(columns))


def with_columns(rows: Any, generation: int, origin: str) -> pa.Table:
    """Rows with what curators look at, and a running number for an id."""
    table = as_table(rows)
    own = {"id": [f"{generation}-{k}" for k in range(len(table))], "origin": [origin] * len(table)}
    own |= {"made_in": pa.array([generation] * len(table), pa.int32())}
    for name, column in own.items():
        table = table.append_column(name, column if isinstance(column, pa.Array) else pa.array(column))
    return table if "group" in table.column_names else table.append_column("group", table["prompt"])


if __name__ == "__main__":
    main()
