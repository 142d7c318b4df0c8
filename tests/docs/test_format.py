"""``docs/format.md``, followed: a run read with the standard library, pyarrow and safetensors only.

And held against the types that the writer has.
"""

import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from flywheel.storage.events import EVENTS, FACTS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text()
SEPARATOR = "\x1f"
CHAIN = {"seq", "time", "prev", "event", "hash"}


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_ledger(run: Path) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for line in (run / "ledger.jsonl").read_bytes().splitlines(keepends=True):
        event = json.loads(line)
        content = {key: value for key, value in event.items() if key != "hash"}
        assert line == canonical(event) + b"\n"
        assert event["hash"] == hashlib.sha256(canonical(content)).hexdigest()
        assert event["seq"] == len(events)
        assert event["prev"] == (events[-1]["hash"] if events else "0" * 64)
        events.append(event)
    assert (run / "HEAD").read_text() == events[-1]["hash"] + "\n"
    return events


def artifact(run: Path, name: str) -> Path:
    assert re.fullmatch(r"[0-9a-f]{64}\.[a-z]+", name)
    path = run / "objects" / name[:2] / name[2:]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == name.partition(".")[0]
    return path


@pytest.fixture
def events(finished_run: Path) -> list[dict[str, Any]]:
    return read_ledger(finished_run)


def stage(events: list[dict[str, Any]], name: str, generation: int) -> dict[str, Any]:
    return next(e for e in events if e.get("stage") == name and e["generation"] == generation)


def columns(page_table: str) -> list[str]:
    (row,) = re.findall(rf"^\| {page_table} \| (.*) \|$", PAGE, re.MULTILINE)
    return re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", row))


def test_every_artifact_that_is_named_is_there(finished_run: Path, events: list[dict[str, Any]]) -> None:
    names = {n for e in events for key in ("inputs", "outputs", "carry") for n in e.get(key, {}).values()}
    files = {path.parent.name + path.name for path in finished_run.glob("objects/*/*")}
    assert {str(artifact(finished_run, name).name) for name in names}
    assert names == files


def test_every_event_stage_output_and_fact_is_on_the_page(events: list[dict[str, Any]]) -> None:
    for event in events:
        known = words_of(event["event"]) | CHAIN
        assert event.keys() <= known, event["event"]
        if event["event"] == "stage":
            outputs = {"suite_NAME" if name.startswith("suite_") else name for name in event["outputs"]}
            assert outputs | event["facts"].keys() <= words_of(event["stage"])


@pytest.mark.parametrize(("name", "kind"), [*EVENTS.items(), *FACTS.items()])
def test_the_page_has_every_key_of_an_event_and_every_fact_of_a_stage(name: str, kind: type) -> None:
    keys = {field.encode_name for field in msgspec.structs.fields(kind)}
    assert keys - CHAIN - words_of(name) == set()


def words_of(name: str) -> set[str]:
    """What the page's tables have on the rows that begin with this name."""
    rows = [row for row in PAGE.splitlines() if re.match(r"\| `", row) and f"`{name}`" in row.split("|")[1]]
    assert rows, name
    return set(re.findall(r"`(\w+)`", " ".join(rows)))


def test_the_tables_have_the_columns_of_the_page(finished_run: Path, events: list[dict[str, Any]]) -> None:
    for name, at, output in (
        ("samples", "generate", "samples"),
        ("scores", "grade", "scores"),
        ("decisions", "curate", "decisions"),
        ("corpus", "curate", "corpus"),
        ("outcomes", "evaluate", "outcomes"),
    ):
        table = pq.read_table(artifact(finished_run, stage(events, at, 1)["outputs"][output]))
        wanted = columns(name)
        assert table.column_names[: len(wanted)] == wanted, name


def text_of(value: Any) -> str:
    return "\\0" if value is None else str(value).replace("\\", "\\\\").replace(SEPARATOR, "\\u")


def test_sample_ids_can_be_made_anew(finished_run: Path, events: list[dict[str, Any]]) -> None:
    for at, generation in (("seed", 0), ("generate", 1)):
        table = pq.read_table(artifact(finished_run, stage(events, at, generation)["outputs"]["samples"]))
        floats = {field.name for field in table.schema if re.search("float|double", str(field.type))}
        names = sorted(set(table.column_names) - floats - {"id"})
        seen: dict[tuple[str, int], int] = {}
        for row in table.to_pylist():
            text = SEPARATOR.join(text_of(row[name]) for name in names)
            nth = seen[text, row["key"]] = seen.get((text, row["key"]), -1) + 1
            assert row["id"] == hashlib.blake2b(f"{text}\x1e{nth}".encode(), digest_size=16).hexdigest()


def test_a_corpus_leads_back_to_its_samples_and_their_makers(
    finished_run: Path, events: list[dict[str, Any]]
) -> None:
    curate = stage(events, "curate", 1)
    sources = json.loads(artifact(finished_run, curate["outputs"]["sources"]).read_text())
    batches = [pq.read_table(artifact(finished_run, samples)).to_pylist() for samples, *_ in sources]
    rows = [row for batch in batches for row in batch]
    by_id = {row["id"]: row for row in rows}
    corpus = pq.read_table(artifact(finished_run, curate["outputs"]["corpus"])).to_pylist()
    origins = [by_id[row["id"]]["origin"] for row in corpus]
    assert {origin: origins.count(origin) for origin in set(origins)} == curate["facts"]["by_origin"]
    makers = {by_id[row["id"]]["made_by"] for row in corpus if by_id[row["id"]]["origin"] == "generated"}
    assert makers == {stage(events, "train", 0)["outputs"]["weights"]}
    weights = [struct.unpack("<q", struct.pack("<d", row["weight"]))[0] for row in corpus]
    columns = [(str(row["count"]), row["id"], str(w)) for row, w in zip(corpus, weights, strict=True)]
    texts = [SEPARATOR.join(values).encode() for values in columns]
    digest = hashlib.sha256(b"".join(b"%d:%s" % (len(text), text) for text in texts))
    assert digest.hexdigest() == curate["facts"]["corpus"]
    drawn = [{row["id"] for row in batch} & {row["id"] for row in corpus} for batch in batches]
    assert [rows for *_, rows in sources] == [len(ids) for ids in drawn]


def test_the_weights_are_read(finished_run: Path, events: list[dict[str, Any]]) -> None:
    with safe_open(artifact(finished_run, stage(events, "train", 1)["outputs"]["weights"]), "np") as weights:
        assert all(weights.get_tensor(name).size for name in weights.keys())  # noqa: SIM118
