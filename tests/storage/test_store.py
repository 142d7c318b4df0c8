from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.errors import DamagedError
from flywheel.storage import files
from flywheel.storage.store import Store, is_artifact

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
COLUMNS = {
    "strings": pa.array(["a", None, "ü☂"]),
    "large_strings": pa.array(["a", "b", "c"], pa.large_string()),
    "integers": pa.array([1, 2, None], pa.int32()),
    "unsigned": pa.array([0, 2**64 - 1, 1], pa.uint64()),
    "floats": pa.array([0.1, float("inf"), -0.0]),
    "halves": pa.array([0.5, 1.5, None], pa.float32()),
    "booleans": pa.array([True, False, None]),
    "binary": pa.array([b"\0\xff", b"", None]),
    "points": pa.FixedSizeListArray.from_arrays(pa.array(range(6), pa.float32()), 2),
    "tokens": pa.array([[1, 2], [], None], pa.list_(pa.int64())),
    "turns": pa.array([[{"role": "user", "text": "hi"}], [], None]),
    "labels": pa.array(["x", "y", "x"]).dictionary_encode(),
    "nothing": pa.nulls(3),
}
MIXED = pa.table({name: COLUMNS[name] for name in ("strings", "floats", "tokens")})
TABLES = {name: pa.table({"id": ["1", "2", "3"], name: column}) for name, column in COLUMNS.items()}
TABLES |= {"slice": MIXED.slice(1, 1), "empty": MIXED.slice(3)}
TABLES |= {"chunks": pa.concat_tables([MIXED, MIXED.slice(1)])}
SAVE = """
import sys, torch
from pathlib import Path
from flywheel.storage.store import Store
weights = {name: torch.arange(6.0).reshape(2, 3) + k for k, name in enumerate("zyxab")}
print(Store(Path(sys.argv[1])).put_weights(weights))
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 999])
def test_a_name_is_the_hash_of_the_content_and_says_where_it_lies(
    store: Store, tmp_path: Path, data: bytes
) -> None:
    name = store.put(data, ".bin")
    assert name == hashlib.sha256(data).hexdigest() + ".bin"
    assert store.path(name) == tmp_path / "objects" / name[:2] / name[2:]
    assert store.path(name).read_bytes() == store.get(name) == data


def test_putting_twice_writes_once_and_syncs_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote it may have died between the rename and the sync of its directory."""
    name = store.put(b"once", ".bin")
    path, synced = store.path(name), list[Path]()
    before = path.stat()
    monkeypatch.setattr(files, "sync_directory", synced.append)
    assert store.put(b"once", ".bin") == name
    after = path.stat()
    assert synced == [path.parent]
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert files_in(tmp_path) == [path]


def test_a_failed_put_leaves_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    store.path("00" * 32 + ".bin").parent.mkdir(parents=True)
    monkeypatch.setattr("flywheel.storage.files.os.fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        store.put(b"lost", ".bin")
    assert files_in(tmp_path) == []


def test_a_missing_or_tampered_object_is_refused(tmp_path: Path) -> None:
    name = Store(tmp_path).put_json({"rows": [1, 2]})
    path = Store(tmp_path).path(name)
    for data in (b'{"rows":[1,2]', b'{"rows":[1,2]} ', b"", b'X"rows":[1,2]}', None):
        path.write_bytes(data) if data is not None else path.unlink()
        with pytest.raises(DamagedError, match=path.name):
            Store(tmp_path).json(name)


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_read_back_as_it_was_put(tmp_path: Path, kind: str) -> None:
    name = Store(tmp_path).put_table(TABLES[kind])
    again = Store(tmp_path).table(name)
    assert again.schema == TABLES[kind].schema
    assert again.equals(TABLES[kind])


@settings(max_examples=50)
@given(VALUES)
def test_a_json_value_is_read_back(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "json")
    assert store.json(store.put_json(value)) == value


def test_the_order_of_keys_and_tensors_does_not_change_a_name(store: Store) -> None:
    import torch

    for put, a, b in ((store.put_json, 1, 2), (store.put_weights, torch.ones(2), torch.zeros(3))):
        assert put({"a": a, "b": b}) == put({"b": b, "a": a})


def test_keys_that_are_no_strings_are_read_back_as_a_resumed_run_reads_them(store: Store) -> None:
    """A carry that counts by label: its name must not depend on whether it was read back before."""
    name = store.put_json({9: 1, 10: 2})
    assert store.put_json(store.json(name)) == name


def test_weights_are_read_back_bit_for_bit(store: Store) -> None:
    import torch

    weights = {
        "w": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "half": torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "none": torch.empty(0, 2),
    }
    again = store.weights(store.put_weights(weights))
    assert set(again) == set(weights)
    for name, tensor in weights.items():
        assert again[name].dtype == tensor.dtype
        assert again[name].shape == tensor.shape
        assert torch.equal(again[name].nan_to_num(), tensor.nan_to_num())


def test_weights_have_the_same_name_in_every_process(tmp_path: Path, python_env: dict[str, str]) -> None:
    names = {
        subprocess.run(
            [sys.executable, "-c", SAVE, str(tmp_path / seed)],
            env={**python_env, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1")
    }
    assert len(names) == 1
    assert is_artifact(names.pop())


def test_values_are_stored_in_the_format_of_their_kind(store: Store) -> None:
    import torch

    assert store.put_value(pa.table({"a": [1]})).endswith(".parquet")
    assert store.put_value({"w": torch.ones(1)}).endswith(".safetensors")
    assert store.put_value({"frontier": 3}).endswith(".json")
    assert store.put_value({}).endswith(".json")


def test_a_table_just_stored_is_the_one_that_is_read_back(store: Store, tmp_path: Path) -> None:
    """Parquet does not give every type back: what a stage sees must not depend on the session."""
    table = pa.table({"when": pa.array([1, None], pa.timestamp("s"))})
    name = store.put_table(table)
    assert store.table(name).schema == Store(tmp_path).table(name).schema != table.schema
    assert store.table(name) is store.table(name)


def test_what_an_artifact_name_looks_like() -> None:
    one = "ab" * 32 + ".parquet"
    assert is_artifact(one)
    assert not any(map(is_artifact, (one[:64], one.upper(), one + "\n", one[2:], "fresh")))


def test_a_table_that_is_given_up_leaves_nothing(store: Store, tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"]})

    def give_up() -> None:
        with store.table_writer() as writer:
            writer.write(table)
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        give_up()
    assert files_in(tmp_path) == []


def test_a_table_in_batches_is_the_table_at_once_in_row_groups(store: Store) -> None:
    table = pa.table({"id": [f"{k:06}" for k in range(200_000)], "x": range(200_000)})
    with store.table_writer() as writer:
        for start in range(0, len(table), 1000):
            writer.write(table.slice(start, 1000))
    assert writer.rows == len(table)
    assert Store(store.path(writer.name).parents[2]).table(writer.name).equals(table)
    assert pq.ParquetFile(store.path(writer.name)).num_row_groups > 2
