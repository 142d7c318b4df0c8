import sys
from pathlib import Path

import pyarrow as pa
import pytest

import flywheel
from flywheel.errors import MissingExtra, RunError
from flywheel.lineage.record import Record
from flywheel.lineage.sql import query
from flywheel.lineage.views import VIEWS

pytest.importorskip("duckdb", reason='pip install -e ".[query]" brings it')


def rows(run: Path, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in query(run, sql).to_pylist()]


def test_each_view_tells_what_the_ledger_does(finished_run: Path) -> None:
    run = flywheel.open_run(finished_run)
    states = [(g.number, str(g.record.status)) for g in run.generations()]
    assert rows(finished_run, "SELECT generation, status FROM generations ORDER BY 1") == states
    assert rows(
        finished_run, "SELECT count(*), max(hash) FILTER (seq = (SELECT max(seq) FROM events)) FROM events"
    ) == [(len(Record.read(finished_run).events), run.status().json()["head"])]
    corpora = [(g.number, g.record.curate.facts.rows) for g in run.generations()]
    trained = "SELECT generation, count(*) FROM edges WHERE type = 'trained_on' GROUP BY 1 ORDER BY 1"
    assert rows(finished_run, trained) == corpora
    decided = "SELECT generation, count(*) FILTER (keep AND count > 0) FROM decisions GROUP BY 1 ORDER BY 1"
    assert rows(finished_run, decided) == corpora
    measured = "SELECT avg(score) FROM outcomes WHERE generation = 1 AND suite = 'gate'"
    assert rows(finished_run, measured) == [(run.generation(1).metrics["gate"]["accuracy"].value,)]


def test_samples_stand_beside_their_scores_and_their_own_turns_decision(finished_run: Path) -> None:
    answer = query(finished_run, "SELECT * FROM samples WHERE made_in = 1")
    ours = flywheel.open_run(finished_run).samples(1)
    for name in ("id", "confidence", "keep", "reason", "count"):
        assert answer[name].to_pylist() == ours[name].to_pylist()


def test_edges_lead_from_a_generation_to_the_weights_that_made_its_data(finished_run: Path) -> None:
    sql = """SELECT DISTINCT g.generation FROM edges t JOIN edges p ON p.child = t.parent
             JOIN generations g ON g.weights = p.parent
             WHERE t.type = 'trained_on' AND p.type = 'produced_by' AND t.child = '1'"""
    assert rows(finished_run, sql) == [(0,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_parquet('https://example.org/x.parquet')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM sys",
        "COPY samples TO '/tmp/flywheel-stolen.csv'",
        "ATTACH '/tmp/flywheel.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false; SELECT 1",
        "DROP VIEW samples",
        "CREATE TABLE t AS SELECT 1",
        "DELETE FROM samples",
        "WITH gone AS (DELETE FROM samples RETURNING *) SELECT * FROM gone",
        "EXPLAIN ANALYZE COPY samples TO '/tmp/flywheel-stolen.csv'",
        "SELECT 1; SELECT 2",
        "PRAGMA database_list",
        "",
        "-- nothing",
    ],
)
def test_nothing_can_be_written_or_reached(finished_run: Path, sql: str) -> None:
    with pytest.raises(RunError):
        query(finished_run, sql)
    assert not Path("/tmp/flywheel-stolen.csv").exists()
    assert not Path("/tmp/flywheel.db").exists()


def test_columns_of_one_name_are_told_apart(finished_run: Path) -> None:
    answer = query(finished_run, "SELECT 1 AS x, 2 AS x, 3 AS x_1")
    assert answer.to_pylist() == [{"x": 1, "x_1": 2, "x_1_1": 3}]


def test_a_variable_of_this_process_is_no_table(finished_run: Path) -> None:
    secret = pa.table({"a": [1]})
    with pytest.raises(RunError, match="secret does not exist"):
        query(finished_run, "SELECT * FROM secret")
    assert len(secret) == 1


def test_a_wrong_name_is_told_with_the_tables_and_columns(finished_run: Path) -> None:
    with pytest.raises(RunError) as caught:
        query(finished_run, "SELECT * FROM sampels")
    for name, make in VIEWS.items():
        columns = ", ".join(make(Record.read(finished_run)).column_names)
        assert f"{name}: {columns}" in str(caught.value)
    with pytest.raises(RunError, match=r"(?s)\"confidense\" not found.*samples: id, .*confidence"):
        query(finished_run, "SELECT confidense FROM samples")


def test_a_run_without_a_generation_has_every_table(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").touch()
    for name in VIEWS:
        assert rows(tmp_path, f"SELECT count(*) FROM {name}") == [(0,)]


def test_without_duckdb_the_extra_is_named(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingExtra, match=r"flywheel\[query\]"):
        query(finished_run, "SELECT 1")
