"""What corpus work costs: the stage ``curate`` on millions of rows, and as generations pass.

    python -m benchmarks.corpus make ROWS DIRECTORY          # a store: human rows, and 20 batches with scores
    python -m benchmarks.corpus flywheel DIRECTORY           # the stage, on all of it
    python -m benchmarks.corpus duckdb DIRECTORY             # the same steps, written directly
    python -m benchmarks.corpus polars DIRECTORY             # and again; needs pip install polars
    python -m benchmarks.corpus growth --rows 100000         # 100 turns with as many new rows each

The steps: keep generated rows with a confidence of .5 or more; of rows with the same prompt and answer the
first; none whose prompt is of a suite; human rows drawn so often that they are a fifth of the draws. Each way
reads the same Parquet files and writes the same two: decisions on all rows (id, keep, reason, weight, count)
and the corpus (id, weight, count). Each prints a line of JSON: wall and CPU seconds, the peak of the
process's resident memory, and what it kept, which must be equal.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BATCHES, HUMAN, HELD_OUT = 20, 0.02, 10_000
LEAST, SHARE = 0.5, 0.2
CORPUS = "SELECT id, weight, count FROM final WHERE keep AND count > 0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make")
    make.add_argument("rows", type=int)
    make.add_argument("directory", type=Path)
    for name in ("flywheel", "duckdb", "polars"):
        commands.add_parser(name).add_argument("directory", type=Path)
    growth_of = commands.add_parser("growth")
    growth_of.add_argument("--rows", type=int, default=100_000)
    growth_of.add_argument("--turns", type=int, default=100)
    growth_of.add_argument("--anew", action="store_true", help="decide on everything in each turn")
    options = parser.parse_args()
    if options.command == "make":
        make_store(options.rows, options.directory)
    elif options.command == "growth":
        growth(options.rows, options.turns, anew=options.anew)
    else:
        measured(globals()[f"with_{options.command}"], options.directory)


def measured(work: Callable[[Path, Any], dict[str, Any]], directory: Path) -> None:
    """Do the work and print what it took; what is imported is there already."""
    import duckdb  # noqa: F401
    import polars  # noqa: F401

    import flywheel.testing  # noqa: F401

    tools = bench(directory) if work is with_flywheel else None
    wall, cpu = time.perf_counter(), time.process_time()
    result = work(directory, tools)
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures = {**{key: round(value, 2) for key, value in spent.items()}, "peak_gib": round(peak, 3)}
    print(json.dumps({"by": sys.argv[1], **figures, **result}))


# -- the data ------------------------------------------------------------------------------------------------


def texts(first: np.ndarray, second: np.ndarray) -> pa.Table:
    """Sums in words, about 50 bytes each, with their answers."""
    import pyarrow.compute as pc

    one, two = (pa.array(numbers).cast(pa.string()) for numbers in (first, second))
    prompt = pc.binary_join_element_wise("Add the two numbers", one, "and", two, "please", " ")
    return pa.table({"prompt": prompt, "answer": pa.array(first + second).cast(pa.string())})


def draw(rng: np.random.Generator, rows: int, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of numbers, of which about a tenth of all that are drawn come again."""
    which = rng.integers(0, total * 5, rows)
    return which % 99_991 + 1_000_003, which * 7_919 % 9_999_991 + 2_000_003


def samples(rng: np.random.Generator, rows: int, total: int, turn: int) -> pa.Table:
    """A batch of a turn, or of people where that is 0, as a run records it."""
    from flywheel.tables import with_provenance

    payload = texts(*draw(rng, rows, total))
    if not turn:
        where = {"origin": "human", "made_in": 0, "source": "recipe", "key": 0}
        return with_provenance(payload, own=("prompt",), **where)
    payload = payload.append_column("key", pa.array(rng.integers(0, 2**62, rows)))
    where = {"origin": "generated", "made_in": turn, "made_by": f"{turn:064x}.safetensors"}
    return with_provenance(payload, own=("prompt", "key"), **where)


def store_batch(store: Any, rng: np.random.Generator, rows: int, total: int, turn: int) -> list[str | None]:
    """The artifacts of a turn's samples and scores."""
    with store.table_writer() as batch, store.table_writer() as scores:
        for start in range(0, rows, 1 << 16):
            part = samples(rng, min(1 << 16, rows - start), total, turn)
            batch.write(part)
            scores.write(pa.table({"id": part["id"], "confidence": rng.random(len(part)).round(4)}))
    return [batch.name, scores.name, None]


def make_store(rows: int, directory: Path) -> None:
    """Batches as a run has them, and ``sources.json``, which says which they are."""
    from flywheel.storage.store import Store

    store, rng = Store(directory), np.random.default_rng(0)
    people = int(rows * HUMAN)
    sources: list[list[str | None]] = [[store.put_table(samples(rng, people, rows, 0)), None, None]]
    for turn in range(1, BATCHES + 1):
        sources.append(store_batch(store, rng, (rows - people) // BATCHES, rows, turn))
    items = texts(*draw(rng, HELD_OUT, rows))
    items = items.append_column("item", pa.array([f"item {k}" for k in range(HELD_OUT)]))
    pq.write_table(items, directory / "items.parquet")
    (directory / "sources.json").write_text(json.dumps(sources))


def files_of(directory: Path) -> tuple[list[str], list[str]]:
    """The files of all batches, the human one first, and of the scores of the others."""
    sources = json.loads((directory / "sources.json").read_text())
    paths = [[str(directory / "objects" / n[:2] / n[2:]) for n in names if n] for names in sources]
    return [source[0] for source in paths], [source[1] for source in paths[1:]]


# -- the stage -----------------------------------------------------------------------------------------------


def bench(directory: Path) -> Any:
    """A stage bench on the directory's store, with suite ``gate`` held out by the column ``prompt``."""
    from flywheel.config.fingerprint import fingerprint
    from flywheel.curators import Dedupe, Pipeline, Threshold
    from flywheel.executors import Inline
    from flywheel.keys import Key
    from flywheel.records import Role, Suite
    from flywheel.runtime.context import StageTools
    from flywheel.runtime.data import Data
    from flywheel.runtime.held_out import Problems
    from flywheel.runtime.stop import Stop
    from flywheel.storage.store import Store
    from flywheel.testing.contracts.bench import given

    steps = {
        "threshold": Threshold(score="confidence", least=LEAST),
        "dedupe": Dedupe(unique=["prompt", "answer"]),
    }
    components = given(curator=Pipeline(steps=steps))
    components.resolved["human_share"] = SHARE
    problems = Problems(("prompt",))
    gate = Suite("gate", Role.GATE, pq.read_table(directory / "items.parquet"))
    data = Data(pa.table({}), {"gate": gate}, problems, problems.held_out([gate]))
    stop = Stop(directory)
    Key.root(0).seed_globals()  # what is imported and read once a session is so before the clock runs
    fingerprint(components, "curator", {})
    return StageTools(components, Store(directory), data, stop, Inline(stop.check))


def curate(tools: Any, sources: list[Any], turn: int, after: str | None = None) -> tuple[Any, dict[str, str]]:
    """The facts of the stage, and its outputs, stored."""
    from flywheel.keys import Key
    from flywheel.stages import table

    output = tools.run(table.curate, turn, Key.root(0), {}, sources=sources, after=after)
    return output.facts, {name: tools.store.put_value(value) for name, value in output.outputs.items()}


def with_flywheel(directory: Path, tools: Any) -> dict[str, Any]:
    """The stage ``curate`` on all batches."""
    sources = json.loads((directory / "sources.json").read_text())
    facts, outputs = curate(tools, sources, BATCHES)
    parts = tools.store.json(outputs["corpus"])
    return {"rows": facts.rows, "draws": sum(part["draws"] for part in parts), "why": facts.by_reason}


def growth(rows: int, turns: int, *, anew: bool) -> None:
    """CPU seconds of the stage and of storing what it made, turn by turn; making the batch is not counted.

    Later turns are compared with turns 6 to 15, ten at a time: the keys of earlier rows are merged now and
    then, so that single turns differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        directory, rng, total = Path(folder), np.random.default_rng(0), rows * turns
        items = texts(*draw(rng, HELD_OUT, total))
        items = items.append_column("item", pa.array([f"item {k}" for k in range(HELD_OUT)]))
        pq.write_table(items, directory / "items.parquet")
        tools = bench(directory)
        sources: list[Any] = [[tools.store.put_table(samples(rng, rows, total, 0)), None, None]]
        after, spent = None, []
        for turn in range(1, turns + 1):
            sources.append(store_batch(tools.store, rng, rows, total, turn))
            began = time.process_time()
            facts, outputs = curate(tools, sources, turn, None if anew else after)
            spent.append(time.process_time() - began)
            after, sources = outputs["stream"], [s[:3] for s in tools.store.json(outputs["sources"])]
        means = {last: float(np.mean(spent[max(0, last - 10) : last])) for last in range(15, turns + 1, 5)}
        seconds = {f"turns {max(0, last - 10) + 1} to {last}": round(m, 4) for last, m in means.items()}
        ratio = means[max(means)] / means[15]
        print(json.dumps({"seconds": seconds, "ratio": round(ratio, 3), "rows of the corpus": facts.rows}))


# -- the same steps, written directly ------------------------------------------------------------------------


def with_duckdb(directory: Path, _: Any) -> dict[str, Any]:
    """SQL."""
    import duckdb

    (human, *batches), scores = files_of(directory)
    database = duckdb.connect(str(directory / "peer.duckdb"))
    database.execute("SET preserve_insertion_order = true")

    def run(sql: str) -> Any:
        return database.execute(sql)

    pairs = " UNION ALL BY NAME ".join(
        f"SELECT {k} AS batch, file_row_number AS line, s.id, prompt, answer, confidence, false AS human "
        f"FROM read_parquet('{batch}', file_row_number=true) s POSITIONAL JOIN "
        f"(SELECT confidence FROM read_parquet('{score}'))"
        for k, (batch, score) in enumerate(zip(batches, scores, strict=True), 1)
    )
    people = (
        "SELECT 0 AS batch, file_row_number AS line, id, prompt, answer, NULL::DOUBLE AS confidence, "
        f"true AS human FROM read_parquet('{human}', file_row_number=true)"
    )
    columns = "*, batch::BIGINT * 1000000000 + line AS n"
    run(f"CREATE TEMP TABLE rows AS SELECT {columns} FROM ({people} UNION ALL {pairs})")
    run(f"CREATE TEMP TABLE asked AS SELECT DISTINCT prompt, true AS asked FROM '{directory}/items.parquet'")
    run(
        "CREATE TEMP TABLE looked_at AS SELECT n, id, prompt, answer, human, CASE WHEN human THEN NULL "
        f"WHEN NOT confidence >= {LEAST} THEN 'confidence below 0.5' "
        "WHEN asked THEN 'leaked: suite gate asks it' END AS reason FROM rows LEFT JOIN asked USING (prompt)"
    )
    run(
        "CREATE TEMP TABLE firsts AS SELECT min(n) AS n, true AS first FROM looked_at WHERE reason IS NULL "
        "GROUP BY prompt, answer"
    )
    run(
        "CREATE TEMP TABLE decided AS SELECT n, id, human, coalesce(reason, CASE WHEN first THEN 'kept' "
        "ELSE 'duplicate' END) AS reason FROM looked_at LEFT JOIN firsts USING (n)"
    )
    own, others = run(
        "SELECT count(*) FILTER (human), count(*) FILTER (NOT human) FROM decided WHERE reason = 'kept'"
    ).fetchone()
    factor = max(1.0, float(np.ceil(others * SHARE / (1 - SHARE) - 1e-9)) / own)
    more = f"floor(k * {factor!r} + 1e-6)::INT - floor((k - 1) * {factor!r} + 1e-6)::INT"
    run(
        "CREATE TEMP TABLE final AS SELECT n, id, reason = 'kept' AS keep, reason, 1.0::DOUBLE AS weight, "
        f"(CASE WHEN reason <> 'kept' THEN 0 WHEN NOT human THEN 1 ELSE {more} END)::INT AS count "
        "FROM (SELECT *, sum((reason = 'kept')::INT) OVER (ORDER BY n) AS k FROM decided WHERE human "
        "UNION ALL SELECT *, NULL FROM decided WHERE NOT human) ORDER BY n"
    )
    for table, rows in (("decisions", "SELECT * EXCLUDE n FROM final"), ("corpus", CORPUS)):
        run(f"COPY ({rows}) TO '{directory}/{table}.parquet' (FORMAT parquet, COMPRESSION zstd)")
    rows, draws = run("SELECT count(*), sum(count) FROM final WHERE keep AND count > 0").fetchone()
    database.close()
    return {"rows": rows, "draws": int(draws)}


def with_polars(directory: Path, _: Any) -> dict[str, Any]:
    """Expressions."""
    import polars as pl

    (human, *batches), scores = files_of(directory)
    columns = ["id", "prompt", "answer"]
    people = pl.scan_parquet(human).select(*columns, confidence=pl.lit(None, pl.Float64), human=True)
    pairs = [
        pl.concat(
            [pl.scan_parquet(batch).select(columns), pl.scan_parquet(score).select("confidence")],
            how="horizontal",
        ).with_columns(human=False)
        for batch, score in zip(batches, scores, strict=True)
    ]
    asked = pl.read_parquet(directory / "items.parquet")["prompt"].unique()
    rows = pl.concat([people, *pairs]).collect()
    passes = rows["human"] | (rows["confidence"] >= LEAST).fill_null(False)
    leaked = passes & rows["prompt"].is_in(asked.implode()) & ~rows["human"]
    among = rows.select("prompt", "answer").with_row_index().filter(passes & ~leaked)
    is_first = np.zeros(len(rows), bool)
    is_first[among.unique(["prompt", "answer"], keep="first")["index"].to_numpy()] = True
    decided = rows.select("id", "human").with_columns(
        reason=pl.when(~passes)
        .then(pl.lit("confidence below 0.5"))
        .when(leaked)
        .then(pl.lit("leaked: suite gate asks it"))
        .when(~pl.Series(values=is_first))
        .then(pl.lit("duplicate"))
        .otherwise(pl.lit("kept"))
    )
    decided = decided.with_columns(keep=pl.col("reason") == "kept")
    own = int(decided.filter("human")["keep"].to_numpy().sum())
    others = int(decided["keep"].to_numpy().sum()) - own
    factor = max(1.0, float(np.ceil(others * SHARE / (1 - SHARE) - 1e-9)) / own)
    count = decided["keep"].to_numpy().astype(np.int32)
    people_rows = decided["human"].to_numpy()
    sums = np.floor(np.cumsum(count[people_rows]) * factor + 1e-6)
    count[people_rows] = np.diff(sums, prepend=0.0)
    final = decided.select("id", "keep", "reason", weight=pl.lit(1.0), count=pl.Series(values=count))
    final.write_parquet(directory / "decisions.parquet", compression="zstd")
    corpus = final.filter(pl.col("keep") & (pl.col("count") > 0)).select("id", "weight", "count")
    corpus.write_parquet(directory / "corpus.parquet", compression="zstd")
    return {"rows": len(corpus), "draws": int(corpus["count"].sum())}


if __name__ == "__main__":
    main()
