"""Labels: what a person said of samples, from a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.errors import DataError
from flywheel.graders.failures import FAILURE

if TYPE_CHECKING:
    import pyarrow as pa

    from flywheel.keys import Keys

_WORDS = {"right": 1.0, "wrong": 0.0, "yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}


@dataclass(kw_only=True)
class Labels:
    """The label that a file has for a sample, 1 for right and 0 for wrong; for others none, with that reason.

    ``python -m flywheel audit RUN --out FILE`` writes a file to fill in. What it says when a turn is audited
    is recorded with the run: later changes of the file change later turns only.
    """

    path: str
    """A .csv, .jsonl or .parquet file."""
    by: list[str] = field(default_factory=lambda: ["id"])
    """Columns, of the file and of samples, by which a label is a sample's, e.g. ``[prompt, answer]``."""
    label: str = "label"
    """Column of the file: 0 to 1, true or false, right or wrong, yes or no; empty: no label yet."""
    column: str = "labelled"
    """Name of the column of scores."""
    _known: dict[str, float] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.by:
            raise ValueError("by must name one column or more, e.g. [id]; it is empty.")

    def grade(self, samples: pa.Table, load_parent: Callable[[], Any], keys: Keys) -> dict[str, pa.Array]:
        """One column of scores, and ``failure``, which says that a sample has no label."""
        import pyarrow as pa

        if missing := [name for name in self.by if name not in samples.column_names]:
            raise DataError(f"by must name columns of samples, {samples.column_names}; {missing} are none.")
        if self._known is None:
            self._known = self._read(samples.schema)
        labels = [self._known.get(name) for name in _names(samples, self.by)]
        reasons = [None if label is not None else f"no label in {Path(self.path).name}" for label in labels]
        return {self.column: pa.array(labels, pa.float64()), FAILURE: pa.array(reasons, pa.string())}

    def _read(self, like: pa.Schema) -> dict[str, float]:
        from flywheel.tables.items import read_table

        if not Path(self.path).is_file():
            raise DataError(
                f"path must be a .csv, .jsonl or .parquet file with labels; {self.path!r} is none."
            )
        rows = read_table(Path(self.path), like)
        if missing := [name for name in (*self.by, self.label) if name not in rows.column_names]:
            raise DataError(f"{self.path} must have columns {[*self.by, self.label]}; {missing} are missing.")
        known: dict[str, float] = {}
        for name, value in zip(_names(rows, self.by), rows[self.label].to_pylist(), strict=True):
            label = self._label(value)
            if label is not None and known.setdefault(name, label) != label:
                raise DataError(
                    f"{self.path} must label a sample once; one has {known[name]:g} and {label:g}."
                )
        return known

    def _label(self, value: Any) -> float | None:
        if value is None or value == "":
            return None
        label = _WORDS.get(value.strip().lower(), value) if isinstance(value, str) else value
        try:
            number = float(label)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number <= 1:
            raise DataError(
                f"Column {self.label!r} of {self.path} must have labels from 0 to 1, right or wrong; it has "
                f"{value!r}."
            )
        return number


def _names(rows: pa.Table, by: Sequence[str]) -> list[str]:
    """What a row is known by, as one text each."""
    import pyarrow.compute as pc

    from flywheel.tables.digests import column_texts

    names: list[str] = pc.binary_join_element_wise(*(column_texts(rows[n]) for n in by), "\x1f").to_pylist()
    return names
