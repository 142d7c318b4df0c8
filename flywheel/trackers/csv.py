"""A run as plain CSV files beside its ledger, to be opened in a spreadsheet."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.storage.events import Event
from flywheel.storage.state import RunState
from flywheel.trackers.mirror import Mirror
from flywheel.trackers.rows import EVALUATE, GENERATE, GENERATION, LOOK, SEALED, TRAIN, TRIALS, Row

FILES = {
    GENERATION: "metrics.csv",
    TRAIN: "fits.csv",
    TRIALS: "trials.csv",
    LOOK: "looks.csv",
    SEALED: "sealed.csv",
    GENERATE: "generate.csv",
    EVALUATE: "evaluate.csv",
}
"""Axis of a row -> the file that it is in."""


@dataclass(kw_only=True)
class Csv(Mirror):
    """Writes ``metrics.csv``, a row a generation, and ``fits.csv``, a row a step that a curve has.

    Also ``generate.csv`` and ``evaluate.csv``, how fast samples were made and suites answered, and where
    there are any ``trials.csv``, ``looks.csv`` and ``sealed.csv``. Each session writes all of them anew from
    the ledger and goes on, so that no row is there twice. A text that a spreadsheet would take for a formula
    has a quote before it.
    """

    folder: str = "csv"
    """Where; relative to the run's directory."""

    def begin(self, state: RunState) -> None:
        """Start all files anew, aside of those that are there."""
        self._folder = self._directory / self.folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._files = {axis: _File(self._folder / name) for axis, name in FILES.items()}
        self._generations: dict[int, dict[str, Any]] = {}
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._is_caught_up = False

    def caught_up(self) -> None:
        """Put the new files in the places of the old ones."""
        self._is_caught_up = True
        self._write()
        for axis, name in FILES.items():
            if not self._files[axis].columns:  # of an earlier run in this folder
                (self._folder / name).unlink(missing_ok=True)

    def event(self, event: Event, state: RunState) -> None:
        """Write what an event says."""
        super().event(event, state)
        if self._rows is not None:
            self._write()

    def row(self, row: Row, state: RunState) -> None:
        """Take it; what is said of a generation later, e.g. by a recall, is in its one row."""
        if row.axis == GENERATION:
            self._generations.setdefault(row.values[GENERATION], {}).update(row.values)
        section = row.axis.partition("/")[0] + "/"
        values = {name.removeprefix(section): value for name, value in row.values.items()}
        self._waiting.setdefault(row.axis, []).append(values)

    def _write(self) -> None:
        if not self._is_caught_up:
            return
        for axis, rows in self._waiting.items():
            if axis == GENERATION:
                self._files[axis].rewrite([self._generations[number] for number in sorted(self._generations)])
            else:
                self._files[axis].append(rows)
        self._waiting.clear()


class _File:
    """A CSV file that is written anew by this session and may get new columns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.columns: list[str] = []

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows; those that are there are written again where there are new columns."""
        rows = list(rows)
        names = list(dict.fromkeys(name for row in rows for name in row))
        if set(names) <= set(self.columns):
            with self._path.open("a", newline="", encoding="utf-8") as file:
                self._writer(file).writerows(map(_cells, rows))
            return
        there = self._read() if self.columns else []
        self.columns += [name for name in names if name not in self.columns]
        self._replace([*there, *map(_cells, rows)])

    def rewrite(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace all rows."""
        rows = list(rows)
        self.columns = list(dict.fromkeys(name for row in rows for name in row))
        self._replace(map(_cells, rows))

    def _read(self) -> list[dict[str, str]]:
        with self._path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _replace(self, cells: Iterable[Mapping[str, str]]) -> None:
        aside = self._path.with_name(f".{self._path.name}.tmp")
        with aside.open("w", newline="", encoding="utf-8") as file:
            writer = self._writer(file)
            writer.writeheader()
            writer.writerows(cells)
        os.replace(aside, self._path)

    def _writer(self, file: Any) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self.columns, restval="")


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: _cell(value) for name, value in row.items()}


def _cell(value: Any) -> str:
    """A number or truth value as JSON has it, nothing for null, and a text that is no formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
