"""A planted fault of moons: after genesis nothing but class 0 is learned, and the gate hardly sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.curators import Confident
from flywheel.records import Role, Suite


@dataclass(kw_only=True)
class OnlyClass0(Confident):
    """The planted fault: nothing but class 0 is learned once genesis is made."""

    def curate(self, samples: pa.Table, carry: Any, key: Any) -> Any:
        keep = np.equal(samples["label"].to_numpy(), 0) | (pc.max(samples["made_in"]).as_py() == 0)
        ones, reasons = np.ones(len(samples)), ["class"] * len(samples)
        columns = {"id": samples["id"], "keep": keep, "reason": reasons, "weight": ones}
        return columns | {"count": keep.astype(int)}, {}


def few_of_class_1(gate: Suite) -> tuple[Suite, list[pa.Table]]:
    """A gate with a tenth of the items of class 1; and all items of each class."""
    by_class = [gate.items.filter(pc.equal(gate.items["label"], label)) for label in (0, 1)]
    items = pa.concat_tables([by_class[0], by_class[1].slice(0, len(by_class[1]) // 10)])
    return Suite("gate", Role.GATE, items), by_class
