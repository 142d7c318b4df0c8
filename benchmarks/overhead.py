"""What the loop costs: a run against a hand-written script with the same fits, generation and evaluation.

    python benchmarks/overhead.py                  # 5 pairs of 2 generations, about 6 minutes
    python benchmarks/overhead.py --pairs 3 --generations 1

Both train the network of `recipe=mnist` by Lightning for the same steps on the same number of rows, label
the same images and score the same suites, in turn, in one process, imports and data already loaded. The
script keeps everything in memory: no ledger, store, gate, or check. Prints the ratio loop / script pair
by pair.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from typing import Any

import numpy as np
import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--generations", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    script = Script(options.generations)
    loop(1, options.threads, steps=5)  # warm up both
    script.run(steps=5)
    print("| pair | loop, s | script, s | loop / script | CPU time, loop / script |")
    print("| --- | --- | --- | --- | --- |")
    ratios = []
    for pair in range(options.pairs):
        ours, theirs = loop(options.generations, options.threads), script.run()
        ratios.append([mine / yours for mine, yours in zip(ours, theirs, strict=True)])
        wall, cpu = ratios[-1]
        print(f"| {pair + 1} | {ours[0]:.2f} | {theirs[0]:.2f} | {wall:.4f} | {cpu:.4f} |", flush=True)
    wall, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"\nmedian loop / script: {wall:.4f} of the wall time, {cpu:.4f} of the CPU time")


def loop(generations: int, threads: int, steps: int | None = None) -> tuple[float, float]:
    """Wall and CPU seconds of a run by the public API."""
    import flywheel

    with tempfile.TemporaryDirectory() as folder:
        config: dict[str, Any] = {"recipe": "mnist", "generations": generations, "threads": threads}
        config |= {"runs_dir": folder, "log": "quiet", "gate.alpha": 0.999}
        if steps:
            config |= {"settings.steps": steps, "genesis_settings.steps": steps}
        began = time.perf_counter(), time.process_time()
        run = flywheel.run(config)
        seconds = time.perf_counter() - began[0], time.process_time() - began[1]
        assert run.status()["state"] == "finished"
    return seconds


class Script:
    """The same work, by hand."""

    def __init__(self, generations: int) -> None:
        from flywheel.recipes.mnist.digits import images_and_labels, split

        self.generations = generations
        images, labels = images_and_labels()
        self.images, self.labels = images, torch.from_numpy(labels)
        self.rows = split(labels, 0, 10)

    def run(self, steps: int | None = None) -> tuple[float, float]:
        """Wall and CPU seconds of a run."""
        from flywheel.recipes.mnist.images import deskew

        began = time.perf_counter(), time.process_time()
        images = deskew(torch.from_numpy(self.images.copy()).float().div(255).unsqueeze(1))
        human = torch.from_numpy(self.rows.human)
        labels = self.labels[human]
        model = self.fit(images[human], labels, len(human), steps or 250)
        self.score(model, images, "dev", "gate", "sealed")
        for generation in range(self.generations):
            pool = torch.from_numpy(self.rows.unlabelled)
            kept, guesses = self.label(model, images[pool], (0.75, 0.85, 0.9, 0.95)[generation])
            rows = torch.cat([images[human], images[pool][kept]])
            model = self.fit(rows, torch.cat([labels, guesses[kept]]), len(human), steps or 500)
            self.score(model, images, "dev", "gate")
        self.score(model, images, "sealed")
        return time.perf_counter() - began[0], time.process_time() - began[1]

    def fit(self, images: torch.Tensor, labels: torch.Tensor, humans: int, steps: int) -> Any:
        import lightning
        from flywheel.recipes.mnist.batches import MixedBatches
        from flywheel.recipes.mnist.model import Classifier

        human = torch.arange(len(images)) < humans
        data = MixedBatches(images, labels, human, batch_size=64, human_share=0.125, batches=steps)
        model = Classifier()
        lightning.Trainer(
            max_steps=steps,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        ).fit(model, datamodule=data)
        return model.eval()

    @torch.inference_mode()
    def label(self, model: Any, images: torch.Tensor, share: float) -> tuple[torch.Tensor, torch.Tensor]:
        from flywheel.recipes.mnist.images import distort

        chunks = []
        for part in images.split(512):
            views = [part, *(distort(part, 0.5, erase=0.0) for _ in range(4))]
            chunks.append(torch.stack([model(view).softmax(1) for view in views]).mean(0))
        confidence, guesses = torch.cat(chunks).max(1)
        kept = []
        for digit in range(10):
            rows = (guesses == digit).nonzero().flatten()
            kept.append(rows[confidence[rows].argsort(descending=True)[: int(np.ceil(share * len(rows)))]])
        return torch.cat(kept), guesses

    @torch.inference_mode()
    def score(self, model: Any, images: torch.Tensor, *suites: str) -> list[float]:
        scores = []
        for suite in suites:
            rows = torch.from_numpy(getattr(self.rows, suite))
            guesses = torch.cat([model(part).argmax(1) for part in images[rows].split(512)])
            scores.append(float((guesses == self.labels[rows]).float().mean()))
        return scores


if __name__ == "__main__":
    main()
