"""Arrow tables as Parquet: written in a stream, and read only if they cannot inflate beyond a limit."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from flywheel.errors import DamagedError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

GROUP_ROWS, GROUP_BYTES = 1 << 16, 32 << 20
"""When a row group is full: one of the two is reached."""
PIECE_ROWS, PIECE_BYTES = 1 << 17, 64 << 20
"""Rows that are read at a time where a table is streamed; fewer if they are large."""
_BYTES_OF = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT96": 12}
_PLAIN = {"PLAIN", "RLE", "BIT_PACKED"}
"""Encodings in which a text takes as many bytes as it has."""


class TableWriter:
    """Writes a table batch by batch; at no time more than a row group of it is in memory."""

    name = ""
    """The artifact's, once the table is in a store."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._size = (0, 0)
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """Add rows. All batches have the columns and types of the first."""
        import pyarrow.parquet as pq

        if self._writer is None:
            self._writer = pq.ParquetWriter(self._sink, table.schema, compression="zstd")
        self._waiting.append(table)
        self.rows += len(table)
        self._size = (self._size[0] + len(table), self._size[1] + table.nbytes)
        if self._size[0] >= GROUP_ROWS or self._size[1] >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        assert self._writer is not None
        self._writer.write_table(pa.concat_tables(self._waiting))
        self._waiting, self._size = [], (0, 0)

    def abandon(self) -> None:
        """Give the table up, so that Arrow does not try to write its footer when it is collected."""
        if self._writer is not None:
            with suppress(Exception):
                self._writer.close()
            self._writer.is_open = False

    def close(self) -> None:
        """Write what waits and the footer."""
        if self._writer is not None:
            if self._waiting:
                self._flush()
            self._writer.close()


def encode(table: pa.Table) -> bytes:
    """A table's file, as it is stored."""
    file = io.BytesIO()
    writer = TableWriter(file)
    writer.write(table)
    writer.close()
    return file.getvalue()


def limit_bytes() -> int:
    """What a table may take in memory: 8 GiB, or as many GiB as ``FLYWHEEL_TABLE_GIB`` says."""
    return int(float(os.environ.get("FLYWHEEL_TABLE_GIB", "8")) * 2**30)


def read(data: bytes, name: str) -> pa.Table:
    """The table in these bytes.

    Raises DamagedError if they are no Parquet file or would take more memory than the limit. The footer
    is asked before anything is decoded; where it cannot tell, since a text that repeats is stored once,
    rows are decoded few at a time and counted.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    limit = limit_bytes()
    with _explained(name):
        file = pq.ParquetFile(pa.BufferReader(data))
        groups = [file.metadata.row_group(k) for k in range(file.metadata.num_row_groups)]
        _refuse(name, sum(group.total_byte_size for group in groups), limit)
        fixed, widest = _bounds(groups, data)
        _refuse(name, fixed, limit)
        if fixed + widest * file.metadata.num_rows <= limit:
            return file.read()
        step = max(1, min(GROUP_ROWS, limit // max(1, widest)))
        return _counted(name, file, step, limit)


class Rows:
    """The rows of a file's columns, a few at a time: so memory does not grow with their number.

    It trusts the file more than ``read`` does: texts that repeat are decoded before they are counted.
    """

    def __init__(self, file: BinaryIO, name: str, columns: Collection[str]) -> None:
        """``columns``: those of them that the file has are read. Raises DamagedError."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with _explained(name):
            parquet = pq.ParquetFile(file)
            names = [column for column in parquet.schema_arrow.names if column in columns]
            self._schema = pa.schema([parquet.schema_arrow.field(column) for column in names])
            self.step = _rows_at_a_time(parquet.metadata, names)
            self._batches = parquet.iter_batches(batch_size=self.step, columns=names)
        self._name = name
        self._waiting: list[pa.RecordBatch] = []

    def read(self, rows: int) -> pa.Table:
        """The next rows, so many of them; fewer at the end. Raises DamagedError."""
        import pyarrow as pa

        waiting = sum(map(len, self._waiting))
        with _explained(self._name):
            while waiting < rows and (batch := next(self._batches, None)) is not None:
                _refuse(self._name, batch.nbytes, limit_bytes())
                self._waiting.append(batch)
                waiting += len(batch)
        table = pa.Table.from_batches(self._waiting, self._schema)
        self._waiting = table.slice(rows).to_batches()
        return table.slice(0, rows)


def _rows_at_a_time(file: pq.FileMetaData, columns: Collection[str]) -> int:
    size = sum(
        column.total_uncompressed_size
        for group in map(file.row_group, range(file.num_row_groups))
        for column in map(group.column, range(group.num_columns))
        if column.path_in_schema.partition(".")[0] in columns
    )
    fitting = int(PIECE_BYTES * file.num_rows // max(1, size))
    return max(1, min(PIECE_ROWS, fitting))


def _bounds(groups: list[Any], data: bytes) -> tuple[int, int]:
    """Bytes of all values that are stored one by one, and the most that one row of the others may take."""
    fixed, widest = 0, 0
    for group in groups:
        row = 0
        for column in (group.column(k) for k in range(group.num_columns)):
            is_bytes = column.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
            fixed += column.num_values * (8 if is_bytes else _BYTES_OF.get(column.physical_type, 8))
            if is_bytes and not set(column.encodings) <= _PLAIN:
                row += _dictionary_bytes(column, data)
            if is_bytes:
                fixed += column.total_uncompressed_size
        widest = max(widest, row)
    return fixed, widest


def _dictionary_bytes(column: Any, data: bytes) -> int:
    """The size of a column's dictionary, by its page's header: no value can be longer.

    The header is Thrift's compact protocol: field 1 (kind of page), field 2 (bytes uncompressed).
    """
    total: int = column.total_uncompressed_size
    if not column.has_dictionary_page or not {"RLE_DICTIONARY", "PLAIN_DICTIONARY"} & set(column.encodings):
        return total
    start = column.dictionary_page_offset
    header, numbers = iter(data[start : start + 24]), []
    for _ in range(2):
        if next(header) != 0x15:
            return total
        number, shift = 0, 0
        while (byte := next(header)) & 0x80:
            number, shift = number | (byte & 0x7F) << shift, shift + 7
        numbers.append((number | byte << shift) >> 1)
    return numbers[1]


def _counted(name: str, file: pq.ParquetFile, step: int, limit: int) -> pa.Table:
    import pyarrow as pa

    batches, total = [], 0
    for batch in file.iter_batches(batch_size=step):
        total += batch.nbytes
        _refuse(name, total, limit)
        batches.append(batch)
    return pa.Table.from_batches(batches, file.schema_arrow)


def _refuse(name: str, size: int, limit: int) -> None:
    if size > limit:
        raise DamagedError(
            f"A table may take {limit / 2**30:g} GiB in memory; artifact {name} would take "
            f"{size / 2**30:.3g} GiB or more and is not read. If it is yours, allow more with the "
            "environment variable FLYWHEEL_TABLE_GIB."
        )


@contextmanager
def _explained(name: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, StopIteration) as error:
        raise DamagedError(f"Artifact {name} is not a Parquet file that can be read: {error}") from error
