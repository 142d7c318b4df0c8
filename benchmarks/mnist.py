"""The loop on few labels against what one would do without it, on paired seeds.

    python benchmarks/mnist.py                       # 20 seeds, 10 labels a class: 40 minutes
    python benchmarks/mnist.py --labels 1 4 25 --seeds 5
    python benchmarks/mnist.py --first-seed 300 --controls b b+ --out FILE   # seeds 300 to 319, no a, no c
    python benchmarks/mnist.py --table runs/benchmark/mnist.jsonl
    python benchmarks/mnist.py --recorded runs/mnist/*   # runs that are done: promotions, gate beside sealed

Each seed has its own split, labels and training randomness, the same for all methods, scored once on the
750 sealed images:

    loop    `recipe=mnist` as committed: the champion of its last generation
    final   its `refit=true`: made as the champion was, with the 1,000 labels of gate and dev too
    a       the same network and augmentation, all of the loop's steps, on the labels alone
    b       the same as a, with the gate's 750 labels added to the training labels
    b+      likewise with all labels that `final` has, and its steps besides the loop's
    c       scikit-learn's SelfTrainingClassifier and LabelSpreading on the same (deskewed) pixels

Rows are appended to a file as they are done; the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

RESOLUTION = 1 / 750  # one of the sealed items
CONTROLS = ("a", "b", "b+", "c")


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds, one after another")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--controls", nargs="+", choices=CONTROLS, default=CONTROLS)
    parser.add_argument("--labels", type=int, nargs="+", default=[10], help="labels a class")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark/mnist.jsonl"))
    parser.add_argument("--table", type=Path, help="only print the table of this file")
    parser.add_argument("--recorded", type=Path, nargs="+", metavar="RUN", help="only tell of these runs")
    options = parser.parse_args()
    if options.recorded:
        return print_recorded([recorded(path) for path in options.recorded])
    if not options.table:
        measure(options)
    return print_table(read(options.table or options.out))


def measure(options: argparse.Namespace) -> None:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = {(row["labels"], row["seed"]) for row in read(options.out)}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    wanted = [(n, seed) for n in options.labels for seed in seeds]
    todo = [job for job in wanted if job not in done]
    context = multiprocessing.get_context("spawn")  # forking after OpenMP has started hangs
    with context.Pool(options.jobs, maxtasksperchild=1) as pool, options.out.open("a") as file:
        for row in pool.imap_unordered(partial(one_seed, options.controls), todo):
            print(json.dumps(row), flush=True)
            file.write(json.dumps(row) + "\n")
            file.flush()


def one_seed(controls: Sequence[str], job: tuple[int, int]) -> dict[str, Any]:
    """The loop and some controls on one seed: sealed accuracy of each, seconds of each."""
    import torch

    torch.set_num_threads(1)
    labels, seed = job
    row: dict[str, Any] = {"labels": labels, "seed": seed}
    config, steps, row["genesis"], row["loop"], row["final"], row["loop_seconds"] = run_loop(labels, seed)
    bench = Bench(config)
    methods: dict[str, Callable[[], float]] = {
        "a": lambda: bench.supervised("a", steps[0]),
        "b": lambda: bench.supervised("b", steps[0], "gate"),
        "b+": lambda: bench.supervised("b+", steps[1], "gate", "dev"),
        **{f"c {name}": partial(bench.sklearn, make) for name, make in sklearn_methods().items()},
    }
    for name in (name for name in methods if name.split()[0] in controls):
        began = time.monotonic()
        row[name] = methods[name]()
        row[f"{name}_seconds"] = round(time.monotonic() - began, 1)
    return {**row, "steps": steps[0]}


def run_loop(labels: int, seed: int) -> tuple[Any, tuple[int, int], float, float, float, float]:
    """The recipe by the public API: configuration, steps of the loop and with its refit, accuracies, seconds.

    The seconds are those of the loop, its refit included.
    """
    import flywheel
    from flywheel.config.compose import compose, overrides_of

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        overrides = {"recipe": "mnist", "seed": seed, "task.labels_per_class": labels}
        operational = {"runs_dir": folder, "log": "quiet", "threads": 1, "refit": True}
        config = compose(overrides_of(overrides | operational))
        run = flywheel.run(config)
        status = run.status()
    assert status.state == "finished", status
    sealed = {g.generation: g.metrics["sealed"] for g in status.generations if "sealed" in g.metrics}
    assert status.champion is not None
    assert status.final is not None
    numbers = (0, status.champion.generation, status.final.generation)
    genesis, champion, final = (sealed[number]["accuracy"].value for number in numbers)
    steps = sum(generation.cost.steps for generation in status.generations)
    refit = status.generations[status.final.generation].cost.steps
    seconds = round(time.monotonic() - began, 1)
    return config, (steps - refit, steps), genesis, champion, final, seconds


class Bench:
    """The recipe's task and model, trained by hand."""

    def __init__(self, config: Any) -> None:
        from flywheel.config.components import Components
        from flywheel.keys import Key

        self.components = Components(config)
        self.task = self.components.task
        self.key = Key.root(config.seed)("benchmark")
        self.suites = {suite.name: suite.items for suite in self.task.suites()}

    def supervised(self, name: str, steps: int, *suites: str) -> float:
        """Controls a, b, b+: one fit of ``steps`` steps on labels that people gave, of these suites too."""
        import torch

        self.key(name).seed_globals()
        settings = {**self.components.settings(), "steps": steps}
        model = self.components.model(settings)
        trainer = self.components.build("trainer", settings)()
        trainer.fit(model, datamodule=self.task.data(self._labelled(*suites), settings))
        model.eval()
        with torch.inference_mode():
            scored = self.task.calibrate(model, {"dev": self.suites["dev"]})
            return float(np.mean(self.task.evaluate(scored, None, self.suites["sealed"], self.key)))

    def sklearn(self, make: Callable[[], Any]) -> float:
        """Method c: labels plus the unlabelled images, which it may use as it likes."""
        labelled, unlabelled = self._labelled(), self.task.prompts(1, {}, self.key)
        pixels = np.concatenate([self._pixels(labelled), self._pixels(unlabelled)])
        labels = np.concatenate([labelled["label"].to_numpy(), np.full(len(unlabelled), -1)])
        classifier = make().fit(pixels, labels)
        sealed = self.suites["sealed"]
        return float(np.mean(classifier.predict(self._pixels(sealed)) == sealed["label"].to_numpy()))

    def _labelled(self, *suites: str) -> Any:
        import pyarrow as pa

        columns = ["image", "label"]
        tables = [self.task.seed(), *(self.suites[name] for name in suites)]
        table = pa.concat_tables([table.select(columns) for table in tables])
        return table.append_column("origin", pa.array(["human"] * len(table)))

    def _pixels(self, table: Any) -> np.ndarray:
        pixels: np.ndarray = self.task.images(table).flatten(1).numpy()
        return pixels


def sklearn_methods() -> dict[str, Callable[[], Any]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
    from sklearn.svm import SVC

    return {
        "SelfTraining(SVC)": lambda: SelfTrainingClassifier(
            SVC(C=10, probability=True, random_state=0), criterion="k_best", k_best=300
        ),
        "SelfTraining(LogisticRegression)": lambda: SelfTrainingClassifier(
            LogisticRegression(max_iter=500), threshold=0.75
        ),
        "LabelSpreading(knn 7)": lambda: LabelSpreading(kernel="knn", n_neighbors=7, alpha=0.2),
    }


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def print_table(rows: list[dict[str, Any]]) -> None:
    """Mean sealed accuracy of each method, and paired differences to it, with 95% t intervals."""
    for labels in sorted({row["labels"] for row in rows}):
        chosen = [row for row in rows if row["labels"] == labels]
        print(f"\n{labels} labels a class, {len(chosen)} paired seeds, sealed accuracy in %\n")
        ours = [name for name in ("loop", "final") if name in chosen[0]]
        print(
            "| method | mean [95% interval] |", *(f"{name} - method; ahead, equal, behind |" for name in ours)
        )
        print("| --- |" + " --- |" * (1 + len(ours)))
        methods = [key for key in chosen[0] if f"{key}_seconds" in chosen[0]]
        first = [*ours, "genesis"]
        for name in [*first, *sorted(set(methods) - set(first))]:
            scores = scores_of(chosen, name)
            paired = (compared(scores_of(chosen, other) - scores) if other != name else "" for other in ours)
            print(f"| {name} | {interval(scores)} |", *(f"{text} |" for text in paired))
        seconds = np.array([row["loop_seconds"] for row in chosen])
        print(
            f"\nloop: {np.median(seconds):.0f} s a run on one thread (median), "
            f"{np.median([row['steps'] for row in chosen]):.0f} steps"
        )


def recorded(path: Path) -> dict[str, float]:
    """Of a run that is done, by its outcomes: first promotion (nan: none), sealed accuracy, gate - sealed."""
    from flywheel.lineage.status import read_state
    from flywheel.storage.store import Store

    state, store = read_state(path), Store(path)
    promoted = [g.number for g in state.generations if g.status == "promoted" and g.parent is not None]
    first, champion = state.first_champion, state.champion
    assert first is not None
    assert champion is not None

    def mean(outcomes: str, suite: str) -> float:
        rows = store.table(outcomes)
        return float(rows["score"].to_numpy()[rows["suite"].to_numpy() == suite].mean())

    before, after = (state.sealed[g.number].outputs["outcomes"] for g in (first, champion))
    gate = mean(str(champion.output("evaluate", "outcomes")), "gate")
    return {
        "first promotion": promoted[0] if promoted else float("nan"),
        "genesis": mean(before, "sealed"),
        "champion": mean(after, "sealed"),
        "gain": mean(after, "sealed") - mean(before, "sealed"),
        "gate - sealed": gate - mean(after, "sealed_gate"),
    }


def print_recorded(rows: list[dict[str, float]]) -> None:
    """Runs with a promotion, and means with 95% t intervals, in %."""
    firsts = [row["first promotion"] for row in rows if row["first promotion"] > 0]
    print(f"{len(firsts)} of {len(rows)} runs promote; first promotions in generation {sorted(firsts)}")
    for name in ("genesis", "champion", "gain", "gate - sealed"):
        scores = np.array([row[name] for row in rows])
        print(f"| {name} | {interval(scores)} | worst {100 * scores.min():.2f} |")


def scores_of(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows])


def compared(gain: np.ndarray) -> str:
    """Mean paired difference with its interval, and on how many seeds it is above, at and below zero."""
    return f"{interval(gain, sign='+')}; {(gain > 0).sum()}, {(gain == 0).sum()}, {(gain < 0).sum()}"


def interval(values: np.ndarray, sign: str = "", resolution: float = RESOLUTION) -> str:
    """Mean and 95% t interval of shares, in %."""
    from flywheel.metrics.intervals import t_interval

    found = t_interval(values, resolution)
    mean, low, high = (100 * part for part in (found.value, found.low, found.high))
    return f"{mean:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


if __name__ == "__main__":
    main()
