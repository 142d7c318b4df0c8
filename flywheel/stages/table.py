"""The one table of stages. A new stage is a file here, a row below, and a line of ``flywheel.loop``.

A row's function is imported when it is first done, so that whoever only lists stages imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import Any

from flywheel.runtime.context import Context, Stage, StageOutput


def _row(name: str, file: str | None = None, **columns: Any) -> Stage:
    """The stage whose function ``name`` is in ``flywheel/stages/{file or name}.py``."""

    def function(ctx: Context, **inputs: Any) -> StageOutput:
        module = importlib.import_module(f"flywheel.stages.{file or name}")
        output: StageOutput = getattr(module, name)(ctx, **inputs)
        return output

    return Stage(name, function, **columns)


# fmt: off
seed     = _row("seed",                     part="task")
generate = _row("generate",                 part="task",    on_all_ranks=True, of_a_turn=True)
grade    = _row("grade",                    part="grader",  on_all_ranks=True, of_a_turn=True)
curate   = _row("curate",                   part="curator", has_carry=True, of_a_turn=True)
tune     = _row("tune",                     part="tuner",   on_all_ranks=True, has_carry=True, of_a_turn=True)
train    = _row("train",                    part="trainer", on_all_ranks=True, of_a_turn=True)
adopt    = _row("adopt",   file="train",    part="model")
evaluate = _row("evaluate",                 part="task",    on_all_ranks=True, of_a_turn=True)
gate     = _row("gate",                     part="gate",    on_all_ranks=True, has_carry=True, of_a_turn=True)
guard    = _row("guard",                    part="guards")
review   = _row("review",                   part="review",  of_a_turn=True)
sealed   = _row("sealed",  file="evaluate", part="task",    on_all_ranks=True)
# fmt: on

STAGES = tuple(row for row in vars().values() if isinstance(row, Stage))
"""All rows, in their order."""
