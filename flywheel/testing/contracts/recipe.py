"""The contract of a whole recipe: every seam of it, and its loop."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flywheel
from flywheel.config.components import Components, check_components
from flywheel.config.compose import compose
from flywheel.config.search_path import add_working_directory
from flywheel.errors import ExitCode
from flywheel.launch.preflight import check_module
from flywheel.lineage.status import read_state
from flywheel.testing.contracts.bench import Bench, bench_of, rule
from flywheel.testing.contracts.gate import check_gate_on
from flywheel.testing.contracts.parts import (
    check_curator_on,
    check_grader_on,
    check_guards_on,
    check_reviewer_on,
    check_tuner_on,
)
from flywheel.testing.contracts.task import check_task_on

ENDS = (ExitCode.FINISHED, ExitCode.AWAITING_REVIEW)


def check_recipe(
    name: str,
    config_dir: str | Path | None = None,
    overrides: Sequence[str] = ("debug=fast_dev_run",),
) -> None:
    """Check all parts of a recipe as it is configured, then run its loop for one generation, twice.

    ``overrides`` shrink it, as on the command line; by default every fit has two steps.
    """
    add_working_directory()
    words, folder = [f"recipe={name}", *overrides], None if config_dir is None else str(config_dir)
    config = compose(words, folder)
    check_components(config)
    components = Components(config)
    check_module(components)
    with bench_of(components) as bench:
        check_parts(bench)
    check_loop(words, folder)


def check_parts(bench: Bench) -> None:
    """Every seam, each with what the one before made."""
    samples = check_task_on(bench)
    generated = [[name, check_grader_on(bench, name), None] for name in samples]
    check_curator_on(bench, [bench.human(), *generated])
    check_tuner_on(bench, [bench.human(), generated[0]])
    check_guards_on(bench)
    check_reviewer_on(bench)
    check_gate_on(bench)


def check_loop(words: Sequence[str], config_dir: str | None) -> None:
    """A run repeats to the bit, is as it was written, and its champion loads."""
    with tempfile.TemporaryDirectory(prefix="flywheel-contract-") as folder:
        one, two = (made_by(words, f"{folder}/{name}", config_dir) for name in ("one", "two"))
    differ = [where for where, outputs in one.items() if two.get(where) != outputs]
    rule(
        not differ,
        f"A run must repeat to the bit; of two of the same configuration, {', '.join(differ)} differ. Draw "
        "from keys or global generators; keep no clock, address or order of a set in what is made.",
    )


def made_by(words: Sequence[str], runs_dir: str, config_dir: str | None) -> dict[str, Any]:
    """What each stage of one run of a generation made."""
    more = ["generations=1", "log=quiet", "tracker=none", "report=none", f"runs_dir={runs_dir}"]
    run = flywheel.run([*words, *more], config_dir=config_dir)
    status = run.status()
    rule(run.exit_code in ENDS, f"A run must come to its end; it {status.state}: {status.reason}.")
    damage = run.verify().first_bad
    rule(damage is None, f"A run must be as it was written; {damage}.")
    run.champion().load()
    return {
        f"{stage} of generation {generation.number}": event.outputs
        for generation in read_state(run.path).generations
        for stage, event in generation.stages.items()
    }
