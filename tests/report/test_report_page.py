"""The page of a run, read as a browser reads it."""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

import flywheel
from flywheel.errors import ConfigError
from flywheel.lineage.status import estimates
from flywheel.lineage.text import estimate_text
from flywheel.report import facts as facts_module
from flywheel.report import write_comparison, write_report
from flywheel.report.facts import run_facts
from flywheel.report.page import fragment
from flywheel.report.samples import Sample, Samples
from flywheel.storage import ledger, lock
from flywheel.views import View
from tests.report.conftest import Page

Make = Callable[[Path, Path], Page]


@pytest.fixture(scope="module")
def frontier_page(frontier_run: Path, page_of: Make, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(frontier_run, tmp_path_factory.mktemp("out") / "report.html")


def test_it_has_every_figure_of_status(frontier_page: Page, frontier_run: Path) -> None:
    status = flywheel.open_run(frontier_run).status()
    for generation in status.generations:
        for *_, estimate in estimates(generation.metrics):
            assert estimate_text(estimate) in frontier_page.words
        assert generation.reason in frontier_page.words
    assert status.head in frontier_page.words
    assert (
        f"Generation {status.champion.generation} is in force" in frontier_page.words
        if status.champion
        else 0
    )


def test_every_link_leads_to_something_and_every_generation_has_a_section(
    frontier_page: Page, frontier_run: Path
) -> None:
    ids = frontier_page.ids
    assert len(ids) == len(set(ids))
    for link in frontier_page.all("a"):
        assert str(link["href"]).startswith("#")
        assert str(link["href"])[1:] in ids
    for generation in flywheel.open_run(frontier_run).generations():
        assert f"generation-{generation.number}" in ids


def test_each_chart_has_a_place_a_label_and_a_table(frontier_page: Page) -> None:
    places = {one["id"]: one for one in frontier_page.all("div") if "plot" in str(one.get("class"))}
    assert set(frontier_page.specs) == set(places) != set()
    assert all(place["aria-label"] for place in places.values())
    assert frontier_page.html.count('<details class="data">') >= len(places)


def test_the_curve_tells_statuses_by_shape(frontier_page: Page) -> None:
    points = frontier_page.specs["progress-0"]["layer"][2]
    assert points["encoding"]["shape"]["field"] == "status"
    shapes = points["encoding"]["shape"]["scale"]["range"]
    assert len(set(shapes)) == len(shapes) > 1


def test_nothing_is_loaded_and_only_its_own_scripts_run(frontier_page: Page) -> None:
    policy = next(one["content"] for one in frontier_page.all("meta") if one.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert not frontier_page.all("link")
    assert not any("src" in one or "srcset" in one for one in frontier_page.all("script"))
    executed = [
        s
        for s, one in zip(frontier_page.scripts, frontier_page.all("script"), strict=True)
        if "type" not in one
    ]
    for script in executed:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_it_is_the_same_page_for_the_same_ledger(finished_run: Path, tmp_path: Path) -> None:
    one, other = (write_report(finished_run, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert one == other
    assert len(one) < 2 << 20


HOSTILE = "</script><img src=x onerror=alert(1)><!--<script>"


def test_what_is_hostile_is_text(run_copy: Path, tmp_path: Path, page_of: Make) -> None:
    """In every string of the ledger that is not a hash or a name of ours, and so in texts and in charts."""
    path = run_copy / "ledger.jsonl"
    lines, head = [], ledger.GENESIS_HASH
    for line in path.read_bytes().splitlines():
        event = json.loads(line)
        event = spoiled(event) | {"prev": head}
        del event["hash"]
        lines.append(ledger.seal(event))
        head = json.loads(lines[-1])["hash"]
    path.write_bytes(b"".join(lines))
    (run_copy / "HEAD").write_text(head + "\n")
    page = page_of(run_copy, tmp_path / "report.html")
    assert page.words.count(HOSTILE) > 5
    assert HOSTILE in json.dumps(page.specs)
    assert not page.all("img") or all(str(one["src"]).startswith("data:") for one in page.all("img"))
    assert not any("onerror" in one for _, one in page.elements)


def spoiled(event: dict[str, Any]) -> dict[str, Any]:
    """With what a person, a model or a recipe chose the words of."""
    if event["event"] == "generation_ended":
        return event | {"reason": HOSTILE}
    if event["event"] == "run_created":
        return event | {"recipe": HOSTILE, "config": {**event["config"], HOSTILE: HOSTILE}}
    facts = event.get("facts", {})
    if "metrics" in facts:
        named = {
            suite: dict.fromkeys([HOSTILE], next(iter(of.values()))) for suite, of in facts["metrics"].items()
        }
        return event | {"facts": facts | {"metrics": named}}
    if "settings" in facts:
        return event | {"facts": facts | {"settings": {HOSTILE: HOSTILE}}}
    return event


def test_a_secret_of_the_environment_does_not_get_in(
    run_copy: Path, tmp_path: Path, page_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a sentence in the ledger has it; nor does the source of a module."""
    reason = flywheel.open_run(run_copy).generations()[1].record.reason
    monkeypatch.setenv("SOME_API_KEY", reason)
    page = page_of(run_copy, tmp_path / "report.html")
    assert reason not in page.html
    assert "${SOME_API_KEY}" in page.words
    assert "def forward" not in page.html
    assert str(Path.home()) not in page.words


def test_a_secret_is_found_however_it_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = """it's "quoted" <b> & more"""
    monkeypatch.setenv("SOME_PASSWORD", secret)
    monkeypatch.setenv("OTHER_PASSWORD", secret[:9])
    sources = (secret, escape(secret), str(Markup.escape(secret)))
    views = (View(secret), *(View(html=source) for source in sources))
    shown = [Sample(str(k), True, secret, "", 1, view) for k, view in enumerate(views)]
    page = fragment("samples.html", samples=Samples(tuple(shown[:2]), tuple(shown[2:])), number=1)
    assert "quoted" not in page
    assert page.count("${SOME_PASSWORD}") == 2 * len(views)


def test_a_run_whose_session_is_ending_has_ended(run_copy: Path, tmp_path: Path, page_of: Make) -> None:
    """It holds its lock while it waits for its report."""
    lock.acquire(run_copy)
    try:
        page = page_of(run_copy, tmp_path / "report.html")
    finally:
        lock.release(run_copy)
    assert "Where does it stand? Finished" in " ".join(page.words.split())


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_a_run_that_has_only_begun_has_a_page(
    lines: int, run_copy: Path, tmp_path: Path, page_of: Make
) -> None:
    path = run_copy / "ledger.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)[:lines]
    path.write_bytes(b"".join(kept))
    (run_copy / "HEAD").write_text(json.loads(kept[-1])["hash"] + "\n")
    page = page_of(run_copy, tmp_path / "report.html")
    assert "There is no champion yet" in page.words
    assert not page.specs


def test_it_says_of_what_items_the_intervals_of_gains_are(
    finished_run: Path, tmp_path: Path, page_of: Make
) -> None:
    assert {gain.is_paired for gain in run_facts(finished_run).headline.gains} == {True, False}
    words = page_of(finished_run, tmp_path / "report.html").words
    assert "that of their own differences. Other intervals of gains are" in words


def test_without_a_test_it_says_so(greedy_run: Path, tmp_path: Path, page_of: Make) -> None:
    assert "Not tested" in page_of(greedy_run, tmp_path / "report.html").words


def test_what_was_pruned_or_recalled_is_said(run_copy: Path, tmp_path: Path, page_of: Make) -> None:
    run = flywheel.open_run(run_copy)
    run.prune(last=0, yes=True)
    run.recall(generation=1, why="a flaw that somebody found", yes=True)
    page = page_of(run_copy, tmp_path / "report.html")
    assert "They were pruned" in page.words
    assert "a flaw that somebody found" in page.words
    assert 'class="strike"' in page.html


def test_several_runs_are_compared(finished_run: Path, frontier_run: Path, tmp_path: Path) -> None:
    page = Page(write_comparison([finished_run, frontier_run], tmp_path / "both.html").read_text("utf-8"))
    for run in (finished_run, frontier_run):
        status = flywheel.open_run(run).status()
        assert status.head in page.words
        assert run.name in page.words
    assert " turns 2 5 " in page.words, "genesis is none"
    assert {"generation-0", "time-0"} <= set(page.specs)
    rows = page.specs["generation-0"]["data"]["values"]
    assert len({row["run"] for row in rows}) == 2
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    x, y = (page.specs["generation-0"]["layer"][0]["encoding"][axis] for axis in "xy")
    assert {row["x"] for row in rows} <= set(x["axis"]["values"]), "a mark for each generation, none between"
    low, high = y["scale"]["domain"]
    assert all(low <= row["low"] and row["high"] <= high for row in rows)


def test_a_run_that_came_to_no_gate_speaks_of_no_look(run_copy: Path, tmp_path: Path, page_of: Make) -> None:
    lines = (run_copy / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    count = next(k for k, line in enumerate(map(json.loads, lines), 1) if line["event"] == "generation_ended")
    (run_copy / "ledger.jsonl").write_bytes(b"".join(lines[:count]))
    (run_copy / "HEAD").write_text(json.loads(lines[count - 1])["hash"] + "\n")
    page = page_of(run_copy, tmp_path / "report.html")
    assert "No candidate has come to the gate." in page.words
    assert "0 of 0 looks" not in page.words
    assert "0 looks" not in page.words


def test_of_a_long_run_what_has_no_section_is_named_without_a_link(
    finished_run: Path, tmp_path: Path, page_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts_module, "chosen", lambda state: state.generations[-1:])
    page = page_of(finished_run, tmp_path / "report.html")
    links = {str(link["href"])[1:] for link in page.all("a")}
    assert links <= set(page.ids)
    assert "generation-0" not in page.ids
    assert "generation 0" in page.words


def test_commands_hold_in_a_shell_whatever_a_run_is_called(
    run_copy: Path, tmp_path: Path, page_of: Make
) -> None:
    odd = run_copy.rename(run_copy.with_name("my run; (2)"))
    words = page_of(odd, tmp_path / "report.html").words
    command = words[words.index("python -m flywheel verify") :].split(" --head")[0]
    assert shlex.split(command)[4:] == [f"moons/{odd.name}"]


def test_one_run_is_not_compared(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two or more"):
        write_comparison([finished_run, finished_run], tmp_path / "both.html")


def test_a_place_that_can_be_no_file_is_refused(finished_run: Path, tmp_path: Path) -> None:
    for place, message in ((tmp_path, "a folder"), (tmp_path / "none" / "a.html", "that is not there")):
        with pytest.raises(ConfigError, match=message):
            write_report(finished_run, place)
        with pytest.raises(ConfigError, match=message):
            write_comparison([finished_run, finished_run.parent], place)
