"""The one table of stages. A new stage is a file here, a row below, and a line of ``flywheel.loop``.

A row's function is imported when it is first done, so that whoever only lists stages imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import Any

from flywheel.records import Role
from flywheel.runtime.context import Context, Stage, StageOutput


def _row(name: str, at: str | None = None, **columns: Any) -> Stage:
    """The stage whose function is ``flywheel.stages.AT``; by default ``name.name``."""
    file, _, function_name = (at or f"{name}.{name}").partition(".")

    def function(ctx: Context, **inputs: Any) -> StageOutput:
        module = importlib.import_module(f"flywheel.stages.{file}")
        output: StageOutput = getattr(module, function_name)(ctx, **inputs)
        return output

    return Stage(name, function, **columns)


# fmt: off
_turn: dict[str, Any] = {"of_a_turn": True}
_all: dict[str, Any] = {"on_all_ranks": True}
seed     = _row("seed",     part="task",    sees=tuple(Role))
labels   = _row("labels",   part="task",    at="seed.labels", sees=(Role.DEV, Role.GATE))
generate = _row("generate", part="task",    **_all, **_turn, sees=(Role.DEV,))
grade    = _row("grade",    part="grader",  **_all, **_turn)
tune     = _row("tune",     part="tuner",   **_all, **_turn, has_carry=True, sees=(Role.DEV,))
audit    = _row("audit",    part="audit",   **_all, sees=(Role.DEV,))
curate   = _row("curate",   part="curator", **_turn, has_carry=True)
train    = _row("train",    part="trainer", **_all, **_turn)
adopt    = _row("adopt",    part="model",   at="train.adopt")
screen   = _row("screen",   part="task",    **_all, sees=(Role.DEV,))
evaluate = _row("evaluate", part="task",    **_all, **_turn, sees=(Role.DEV, Role.GATE, Role.GUARD))
gate     = _row("gate",     part="gate",    **_all, **_turn, has_carry=True, sees=(Role.GATE,))
guard    = _row("guard",    part="guards",  sees=(Role.DEV, Role.GUARD))
review   = _row("review",   part="review",  **_turn)
sealed   = _row("sealed",   part="task",    **_all, at="evaluate.evaluate", sees=(Role.SEALED,))
# fmt: on

REDO = {row.name: row for row in (generate, grade, curate)}
"""What a trial may do anew, with other settings, before its fit."""

STAGES = tuple(row for row in vars().values() if isinstance(row, Stage))
"""All rows, in their order."""
