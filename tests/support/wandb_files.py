"""What a person would see of a W&B run: read back from the file that an offline run writes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HEADER, _BLOCK, _CHUNK_HEADER = 7, 32768, 7
_WHOLE, _LAST = 1, 4


def parse(data: bytes) -> Iterator[Any]:
    """The records: a header, then LevelDB log blocks of 32 KiB. Ends where the file was cut off."""
    from wandb.proto import wandb_internal_pb2

    position, whole = _HEADER, b""
    while position + _CHUNK_HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _CHUNK_HEADER:
            position += left
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        position += _CHUNK_HEADER
        part = data[position : position + length]
        if len(part) < length:
            return
        whole, position = whole + part, position + length
        if kind in (_WHOLE, _LAST):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(whole)
            yield record
            whole = b""


@dataclass(frozen=True)
class Mirror:
    """A W&B run, as its file has it."""

    folder: Path
    records: list[Any]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What was logged, a dict a row."""
        return [_values(r.history.item) for r in self.records if r.HasField("history")]

    def over(self, axis: str) -> list[dict[str, Any]]:
        """The rows that have a place on an axis."""
        return [row for row in self.rows if axis in row]

    def series(self, axis: str, key: str) -> list[tuple[Any, Any]]:
        """What a plot of ``key`` over ``axis`` shows."""
        return [(row[axis], row[key]) for row in self.over(axis) if key in row]

    @property
    def axes(self) -> dict[str, str]:
        """Key -> the key that it is plotted over."""
        metrics = [r.metric for r in self.records if r.HasField("metric")]
        return {metric.name: metric.step_metric for metric in metrics if metric.step_metric}

    @property
    def hidden(self) -> set[str]:
        """Keys without a plot."""
        metrics = [r.metric for r in self.records if r.HasField("metric")]
        return {metric.name for metric in metrics if metric.options.hidden}

    @property
    def sections(self) -> list[str]:
        """The sections of the page, in its order."""
        keys = {key for row in self.rows for key in row if not key.startswith("_")} - self.hidden
        return sorted({key.partition("/")[0] for key in keys})

    @property
    def run(self) -> Any:
        """The record of the run itself: id, project, host."""
        return next(r.run for r in self.records if r.HasField("run"))

    @property
    def config(self) -> dict[str, Any]:
        """Its configuration, without what W&B adds."""
        values = _values(self.run.config.update)
        return {key: value for key, value in values.items() if key != "_wandb"}

    @property
    def summary(self) -> dict[str, Any]:
        """What was said of the whole run."""
        return {
            key: value
            for r in self.records
            if r.HasField("summary")
            for key, value in _values(r.summary.update).items()
        }

    @property
    def alerts(self) -> list[tuple[str, str]]:
        """Title and text of each alert."""
        return [(r.alert.title, r.alert.text) for r in self.records if r.HasField("alert")]

    @property
    def artifacts(self) -> list[Any]:
        """The records of artifacts, but for those of tables."""
        logged = [r.artifact for r in self.records if r.HasField("artifact")]
        return [artifact for artifact in logged if artifact.type != "run_table"]

    def table(self, row: dict[str, Any], name: str) -> list[dict[str, Any]]:
        """The rows of a table that a row names."""
        about = row[f"tables/{name}"]
        table = json.loads((self.folder / "files" / about["path"]).read_text())
        return [dict(zip(table["columns"], cells, strict=True)) for cells in table["data"]]

    def bytes(self) -> dict[Path, bytes]:
        """All files of the run."""
        return {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


def mirror(run: Path, seconds: float = 60) -> Mirror:
    """The newest offline folder of a run, once W&B's own process has written the last record."""
    file = sorted(run.glob("wandb/offline-run-*/*.wandb"))[-1]
    end = time.monotonic() + seconds
    while True:
        records = list(parse(file.read_bytes()))
        if any(record.HasField("exit") for record in records):
            return Mirror(file.parent, records)
        assert time.monotonic() < end, "W&B never wrote the end of the run"
        time.sleep(0.05)


def _values(items: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in items:
        first, *inner = [item.key] if item.key else item.nested_key
        value = json.loads(item.value_json)
        if inner:  # a part of a table's description, e.g. its path
            values.setdefault(first, {})["/".join(inner)] = value
        else:
            values[first] = value
    return values
