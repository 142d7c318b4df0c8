import getpass
import json
import re
import shutil
import subprocess
from itertools import accumulate
from pathlib import Path

import pytest
import wandb

import flywheel
from flywheel.cli.main import main
from flywheel.curators import Pipeline, Threshold
from flywheel.curves import run_curve
from flywheel.errors import ConfigError, ExitCode
from flywheel.lineage.samples import read_samples
from flywheel.records import Action, Alarm, Step
from flywheel.storage import ledger
from flywheel.storage.corpus import parts_of
from flywheel.storage.events import StageDone
from flywheel.storage.store import Store
from flywheel.testing import CONFIG_DIR
from flywheel.testing.moons.task import Moons
from flywheel.trackers import queued
from flywheel.trackers.rows import fit_row
from flywheel.trackers.tables import _best_first
from flywheel.trackers.wandb import Synced, Wandb, _cell, _Fit
from flywheel.trackers.wandb_session import set_earlier_aside
from flywheel.views import View
from tests.support.harness import shared_fork_server
from tests.support.loop_runs import run_moons
from tests.support.probe_parts import Logs
from tests.support.wandb_files import mirror, parse

LOGS = {"model._target_": "tests.support.probe_parts.Logs", "trainer.log_every_n_steps": 10}
GUARD = {"+guards.steady._target_": "tests.trackers.test_wandb.Trips"}


class Trips:
    """A guard that refuses generation 2."""

    def check(self, view):
        action = Action.REJECT if view.generation.number == 2 else Action.PASS
        return Alarm(action, "as the test wants it", {"measured": 0.5})


class Diverges(Logs):
    """Its loss is not finite."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) / 0


@pytest.fixture(scope="module", autouse=True)
def patient():
    """A run of a second waits for W&B's process to start, however busy the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queued, "CLOSE_SECONDS", 60.0)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """It has no WANDB_MODE and nobody is logged in."""
    return run_moons(tmp_path_factory.mktemp("runs"), generations=2, tracker="wandb", **LOGS)


@pytest.fixture(scope="module")
def seen(run):
    return mirror(run.path)


def turns(seen):
    """The rows of generations that have ended."""
    return [row for row in seen.over("generation") if "verdict/status" in row]


def test_without_a_login_it_is_offline_beside_the_ledger(run, seen):
    assert seen.folder.parent == run.path / "wandb"
    assert seen.folder.name.startswith("offline-run-")
    assert run.status().json()["state"] == "finished"
    assert seen.run.run_id == ledger.read(run.path)[0].hash[:16]


def test_where_it_is_shown_is_said_in_one_line(run, tmp_path, capfd, monkeypatch):
    """W&B's own summary would stand among our last lines."""
    monkeypatch.delenv("WANDB_SILENT")
    wandb.teardown()  # it has read the variable
    capfd.readouterr()
    for mode, why in ((None, ", as nobody is logged in to W&B"), ("offline", "")):
        own = run_moons(tmp_path / str(mode), generations=0, tracker="wandb", **{"tracker.wandb.mode": mode})
        said = f"tracker.wandb: offline{why}; python -m flywheel sync {own.path} uploads the run"
        assert capfd.readouterr().err.splitlines() == [said]


def test_disabled_it_does_nothing(run, tmp_path, capfd):
    own = run_moons(tmp_path, generations=1, tracker="wandb", **{"tracker.wandb.mode": "disabled"})
    assert own.exit_code is ExitCode.FINISHED
    assert capfd.readouterr().err == ""
    assert not (own.path / "wandb").exists()


def test_generating_and_evaluating_have_sections_by_their_units(run, seen):
    events = [e for e in ledger.read(run.path) if isinstance(e, StageDone)]
    made = [e for e in events if e.stage == "generate"]
    rows = seen.over("generate/step")
    assert [row["generate/samples"] for row in rows] == [e.facts.made for e in made]
    for row, event in zip(rows, made, strict=True):
        assert row["generate/samples_per_second"] == event.facts.made / event.cost.unit_seconds
    answered = [e for e in events if e.stage in ("screen", "evaluate", "sealed")]
    steps = [row["evaluate/step"] for row in seen.over("evaluate/step")]
    assert steps == list(accumulate(e.facts.units.count for e in answered))


def test_every_metric_of_status_is_there_with_its_interval(run, seen):
    """By generation; the sealed ones by the generation that was looked at."""
    sealed = {row["sealed/generation"]: row for row in seen.over("sealed/generation")}
    compared = 0
    for about, row in zip(run.status().json()["generations"], turns(seen), strict=True):
        assert row["generation"] == about["generation"]
        for suite, metrics in about["metrics"].items():
            for metric, estimate in metrics.items():
                is_sealed = suite not in {key.split("/")[1] for key in row if key.startswith("evaluation/")}
                name = f"{'sealed' if is_sealed else 'evaluation'}/{suite}/{metric}"
                where = sealed[row["generation"]] if is_sealed else row
                parts = [where[name], where[f"{name}_low"], where[f"{name}_high"]]
                assert parts == [estimate["value"], estimate["low"], estimate["high"]]
                compared += 1
    assert compared >= 3 * 2 + 1


def test_verdict_cost_budget_and_head_are_those_of_the_ledger(run, seen):
    status = run.status().json()
    ends = [event for event in ledger.read(run.path) if event.event == "generation_ended"]
    for about, event, row in zip(status["generations"], ends, turns(seen), strict=True):
        assert (row["verdict/status"], row["verdict/reason"]) == (about["status"], about["reason"])
        assert (row["ledger/head"], row["ledger/line"]) == (event.hash, event.seq)
        for name in ("seconds", "cpu_seconds", "steps", "flops"):
            assert row[f"cost/{name}"] == about["cost"][name]
        assert {k.removeprefix("data/corpus/"): n for k, n in row.items() if "data/corpus/" in k} == about[
            "by_origin"
        ]
    last, budget = turns(seen)[-1], status["error_budget"]
    assert last["verdict/error_left"] == pytest.approx(budget["alpha"] - budget["spent"])
    assert last["verdict/looks"] == budget["looks"]
    assert last["cost/total/samples"] == status["spent"]["samples"]
    champion = status["generations"][status["champion"]["generation"]]["metrics"]["gate"]["accuracy"]
    assert last["champion/gate/accuracy"] == seen.summary["champion/gate/accuracy"] == champion["value"]
    gain = champion["value"] - status["generations"][0]["metrics"]["gate"]["accuracy"]["value"]
    assert last["cost/gain/gate/accuracy"] == pytest.approx(gain)
    assert seen.summary["head"] == status["head"] == ledger.read_head(run.path)


def test_the_loss_of_every_generation_is_on_one_increasing_axis(run, seen):
    view = run.generation(0)
    curve = run_curve(Store(run.path), view.state).to_pylist()
    assert {row["generation"] for row in curve} == {0, 1, 2}
    for name in ("loss", "lr", "half_loss"):
        points = [(row["total_step"], row["value"]) for row in curve if row["name"] == name]
        assert seen.series("train/step", f"train/{name}") == points
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps))
        assert seen.axes[f"train/{name}"] == "train/step"


def test_the_page_begins_with_the_champions_metric_over_generations(seen):
    keys = sorted({key for row in seen.rows for key in row if key[0] != "_"} - seen.hidden)
    assert keys[0] == "champion/gate/accuracy"
    assert seen.axes[keys[0]] == "generation"
    assert "generation" in seen.hidden, "it would be a chart of its own, before all sections"
    results = ["champion", "cost", "data", "evaluate", "evaluation", "generate", "ledger", "sealed", "tables"]
    assert seen.sections == [*results, "train", "tuning", "verdict"]


def test_the_configuration_is_all_that_the_session_recorded(run, seen):
    session = run.generation(0).state.session
    import yaml

    config = yaml.safe_load(Store(run.path).get(session.outputs["config"]))
    assert {key: seen.config[key] for key in config} == config
    assert seen.config["session"]["versions"] == session.versions


def test_samples_kept_and_dropped_lie_side_by_side_with_why(run, seen):
    for row in turns(seen)[1:]:
        table = seen.table(row, "samples")
        samples = read_samples(run.path, row["generation"]).to_pylist()
        assert 0 < len(table) <= 20
        for side, keep in (("kept", True), ("dropped", False)):
            of_side = [sample for sample in samples if sample["keep"] is keep]
            shown = [line for line in table if line[side] is not None]
            assert len(shown) == min(20, len(of_side))
            task = run.generation(0).task()
            known = {(task.show(s), s["reason"], s["confidence"]) for s in of_side}
            for line in shown:
                assert (line[side], line[f"{side} reason"], line[f"{side} confidence"]) in known
            assert {line[f"{side} reason"] for line in shown} == {s["reason"] for s in of_side}


def test_outcomes_show_the_items_that_the_candidate_and_the_champion_differ_on(run, seen):
    row = turns(seen)[-1]
    table = seen.table(row, "outcomes")
    assert 0 < len(table) <= 20
    store, generations = Store(run.path), run.generation(0).state.generations
    last = generations[-1]
    ours, theirs = (
        {
            (o["suite"], o["item"]): o["score"]
            for o in store.table(g.output("evaluate", "outcomes")).to_pylist()
            if o["suite"] != "gate"  # of its scores people see what the Ladder shows
        }
        for g in (last, generations[last.champion])
    )
    for line in table:
        key = line["suite"], line["item"]
        assert (line["candidate"], line["champion"]) == (ours[key], theirs[key])
    flips = sum(ours[key] != theirs[key] for key in ours)
    assert sum(line["difference"] != 0 for line in table) == min(flips, 20) or flips > 20


def test_champions_are_artifacts_by_reference_with_their_lineage(run, seen):
    champions = [g for g in run.generation(0).state.generations if g.status == "promoted"]
    models = [artifact for artifact in seen.artifacts if artifact.type == "model"]
    assert len(models) == len(champions) >= 2
    for generation, model in zip(champions, models, strict=True):
        about = json.loads(model.metadata)
        assert about["weights"] == generation.weights
        assert (about["generation"], about["parent"]) == (generation.number, generation.parent)
        (content,) = model.manifest.contents
        assert content.ref == Store(run.path).path(generation.weights).resolve().as_uri()
        assert f"generation-{generation.number}" in model.aliases
    assert {artifact.type for artifact in seen.artifacts} == {"model", "dataset", "settings"}


def test_a_corpus_in_parts_is_an_artifact_with_them(tmp_path):
    """Of a curator that decides in a stream the corpus is a list of rows of tables."""
    own = {"recipe": "moons", "log": "quiet", "runs_dir": str(tmp_path), "generations": 1, "tracker": "wandb"}
    pipeline = Pipeline(steps={"sure": Threshold(score="confidence", least=0.6)})
    run = flywheel.run(own, config_dir=CONFIG_DIR, curator=pipeline)
    champion, store = run.champion().record, Store(run.path)
    corpus = champion.output("curate", "corpus")
    tables = {part.table for part in parts_of(store, corpus)}
    dataset = [a for a in mirror(run.path).artifacts if a.type == "dataset"][-1]
    named = {content.path: content.ref for content in dataset.manifest.contents}
    of_parts = {ref for name, ref in named.items() if name.startswith("corpus-")}
    assert of_parts == {store.path(table).resolve().as_uri() for table in tables}
    assert named["corpus.json"] == store.path(corpus).resolve().as_uri()


def test_trials_have_rows_of_their_own_and_a_table(tmp_path):
    tuning = {"tuner": "random", "tuner.trials": 3, "+tune.space.lr": {"low": 0.001, "high": 0.1}}
    run = run_moons(tmp_path, generations=1, tracker="wandb", **tuning)
    seen = mirror(run.path)
    (row,) = turns(seen)[1:]
    trials = Store(run.path).json(run.generation(1).record.output("tune", "trials"))
    table = {line["trial"]: line for line in seen.table(row, "trials")}
    assert {n: line["score"] for n, line in table.items()} == {t["number"]: t["score"] for t in trials}
    assert {n: line["lr"] for n, line in table.items()} == {
        t["number"]: t["trial"]["settings"]["lr"] for t in trials
    }
    assert row["tuning/trials"] == len(trials)
    curves = Store(run.path).table(run.generation(1).record.output("tune", "curves")).to_pylist()
    ends = {trial: max(r["step"] for r in curves if r["trial"] == trial) for trial in table}
    rows = seen.over("trials/step")
    steps = [line["trials/step"] for line in rows]
    assert steps == sorted(set(steps))
    assert steps[-1] == 2 * sum(ends.values()), "those of genesis, then those of generation 1"
    assert {line["trials/trial"] for line in rows if line["trials/generation"] == 1} == set(table)
    assert not any("train/loss" in line for line in rows)


def test_a_trial_that_scored_nothing_is_better_than_one_that_failed():
    trials = [{"number": 0, "score": None}, {"number": 1, "score": 0.0}, {"number": 2, "score": 0.5}]
    assert [trial["number"] for trial in _best_first(trials)] == [2, 1, 0]


def test_copies_are_bounded_and_need_no_staging(tmp_path, monkeypatch):
    data = tmp_path / "data"
    monkeypatch.setenv("WANDB_DATA_DIR", str(data))
    copies = {"tracker.wandb.artifacts": "copy", "tracker.wandb.artifacts_kept": 1}
    run = run_moons(tmp_path / "runs", generations=2, tracker="wandb", **copies)
    champion = run.champion()
    assert champion.number > 0
    artifacts = mirror(run.path).artifacts
    assert sorted(artifact.type for artifact in artifacts) == ["dataset", "model", "settings"]
    (content,) = next(a for a in artifacts if a.type == "model").manifest.contents
    assert content.local_path == str(Store(run.path).path(champion.weights))
    staged = [path for path in data.rglob("*") if path.is_file()]
    assert all("weights" not in path.name for path in staged)
    (settings,) = next(a for a in artifacts if a.type == "settings").manifest.contents
    assert json.loads(Path(settings.local_path).read_text()) == champion.record.settings


def test_alerts_are_sent_for_what_needs_somebody(tmp_path):
    alerts = {"tracker.wandb.alerts": ["guard", "promotion"]}
    run = run_moons(tmp_path, generations=2, tracker="wandb", **alerts, **GUARD)
    sent = dict(mirror(run.path).alerts)
    assert sent["guards of generation 2"] == "steady (reject): as the test wants it"
    assert set(sent) <= {"guards of generation 2", "generation 0 promoted", "generation 1 promoted"}
    assert "generation 0 promoted" in sent
    row = turns(mirror(run.path))[-1]
    assert (row["guards/steady/action"], row["guards/steady/measured"]) == ("reject", 0.5)


def test_a_failure_is_an_alert_and_a_resumed_session_does_not_send_it_again(tmp_path):
    how = {"name": "run", "generations": 0, "tracker": "wandb", "model._target_": f"{__name__}.Diverges"}
    path = run_moons(tmp_path, **how).path
    failed = dict(mirror(path).alerts)
    assert list(failed) == ["generation 0 failed", "the run failed"]
    assert "loss is not finite" in failed["generation 0 failed"]
    run_moons(tmp_path, **how)
    assert [title for title, _ in mirror(path).alerts] == ["generation 1 failed", "the run failed"]


def test_a_run_that_the_user_has_open_is_the_users(tmp_path):
    mine = wandb.init(project="mine", dir=str(tmp_path / "mine"), mode="offline")
    try:
        for k in range(5):  # W&B's own step is now ahead of any generation
            wandb.log({"mine": k})
        beside = run_moons(tmp_path / "runs", generations=1, tracker="wandb")
        assert wandb.run is mine
        wandb.log({"mine": 5})
    finally:
        mine.finish()
    assert len(turns(mirror(beside.path))) == 2
    own = mirror(tmp_path / "mine").rows
    assert ["mine" in row for row in own] == [True] * 6
    assert not any("generation" in row for row in own)


def test_no_source_no_credential_and_nothing_of_the_machine_gets_into_it(tmp_path, monkeypatch):
    """W&B on its own would take uncommitted changes, host, user, paths, arguments and packages."""
    key, other = "a-key-of-forty-characters-as-it-must-be-x", "a value of the environment"
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("SOME_VARIABLE", other)
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    git = ["git", "-C", str(checkout), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    remote = ["remote", "add", "origin", "https://git.example.org/secret-place"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"], remote):
        subprocess.run([*git, *words], check=True)
    lines = ("from flywheel.graders.confidence import Confidence", "class Own(Confidence):", "    pass")
    (checkout / "own_grader.py").write_text("\n".join(lines))
    (checkout / "notes.txt").write_text("a note that nobody is to read")
    subprocess.run([*git, "add", "."], check=True)
    monkeypatch.chdir(checkout)
    monkeypatch.syspath_prepend(str(checkout))
    own = {"grader._target_": "own_grader.Own", "tracker.wandb.mode": "offline"}
    run = run_moons(tmp_path / "runs", generations=1, tracker="wandb", **own)
    files = mirror(run.path).bytes()
    assert len(files) > 3
    words = ["class Own", key, other, "a note that", "secret-place", "t@example.org"]
    words += ["lightning-utilities", getpass.getuser() + "@"]
    assert mirror(run.path).run.host == ""
    for word in words:
        assert [path for path, data in files.items() if word.encode() in data] == [], word
    names = {path.name for path in files}
    assert not names & {"wandb-metadata.json", "requirements.txt", "output.log", "diff.patch"}
    assert b"class Own" in b"".join(path.read_bytes() for path in run.path.glob("objects/*/*"))
    assert [p for p in run.path.rglob("*") if p.is_file() and key.encode() in p.read_bytes()] == []


def test_a_credential_that_samples_show_is_named_in_its_place(tmp_path, monkeypatch):
    key = "the value of a key"
    monkeypatch.setenv("SOME_API_KEY", key)
    monkeypatch.setattr(Moons, "show", lambda task, sample: f"it used {key}")
    run = run_moons(tmp_path, generations=1, tracker="wandb", **{"tracker.wandb.mode": "offline"})
    files = mirror(run.path).bytes().values()
    assert not any(key.encode() in data for data in files)
    assert any(b"it used ${SOME_API_KEY}" in data for data in files)
    html = _cell(View(html=f"<b>it used {key}</b>"), True).html
    assert key not in html
    assert "it used ${SOME_API_KEY}" in html


def test_a_frontier_has_rows_of_screenings_and_rows_of_looks(tmp_path):
    frontier = {"promotion": "frontier", "promotion.patience": 1, "promotion.harm": 0.07}
    run = run_moons(tmp_path, generations=5, tracker="wandb", **frontier)
    seen = mirror(run.path)
    rows = turns(seen)
    assert [row["generation"] for row in rows] == [0, 1, 2, 3, 4, 5]
    state = run.generation(0).state
    dev = [g.screen.facts.metrics["dev"]["accuracy"].value for g in state.generations[1:]]
    assert [row["evaluation/dev/accuracy"] for row in rows[1:]] == dev
    assert [row["verdict/status"] for row in rows[1:4]] == ["advanced", "rejected", "advanced"]
    assert not any("evaluation/gate/accuracy" in row for row in rows[1:])
    looks = seen.over("look/number")
    assert [(row["look/number"], row["look/generation"]) for row in looks] == [(1, 1), (2, 3), (3, 5)]
    assert [row["look/verdict/status"] for row in looks] == ["promoted", "advanced", "advanced"]
    assert all("look/evaluation/gate/accuracy" in row for row in looks)
    assert seen.series("generation", "verdict/champion")[-1] == (5, 1)
    assert seen.summary["frontier"] == 5
    assert seen.summary["promotion"].startswith("promotion=frontier: ")


def test_greedy_is_said_to_be_no_test(tmp_path):
    seen = mirror(run_moons(tmp_path, generations=1, tracker="wandb", promotion="greedy").path)
    assert seen.summary["promotion"].startswith("promotion=greedy: no test")
    row = turns(seen)[1]
    assert row["verdict/reason"].startswith("no test, promotion=greedy")
    assert "evaluation/dev/accuracy" in row
    assert "verdict/error_left" not in row


def test_what_a_recall_changes_is_shown_by_the_next_session(run, tmp_path):
    path = tmp_path / "runs" / run.path.parent.name / run.path.name
    shutil.copytree(run.path, path, ignore=shutil.ignore_patterns("wandb"))
    copy = flywheel.open_run(path)
    number = copy.champion().number
    copy.recall(generation=number, why="it is flawed", yes=True)
    Wandb(artifacts=None).sync(path, "offline")
    last = mirror(path).over("generation")[-1]
    assert (last["verdict/change"], last["verdict/why"]) == ("recalled", "it is flawed")
    assert last["verdict/champion"] == copy.champion().number != number


def test_sync_shows_a_run_that_had_no_tracker_as_if_it_had_been_followed(run, seen, tmp_path):
    without = run_moons(tmp_path, generations=2, **LOGS)
    done = Wandb().sync(without.path, "offline")
    synced = mirror(without.path)
    assert done.rows == len(synced.rows) == len(seen.rows)
    clocks = re.compile("_|cost/|ledger/|tables/|(generate|evaluate)/.*second")

    def comparable(rows):
        return [{k: v for k, v in row.items() if not clocks.match(k)} for row in rows]

    assert comparable(synced.rows) == comparable(seen.rows)


def test_what_an_agent_began_stays_in_its_project(run, tmp_path):
    """Also in sessions without the agent; but sync may be told another one."""
    path = tmp_path / "copy"
    shutil.copytree(run.path, path, ignore=shutil.ignore_patterns("wandb"))

    def place(*words, **env):
        words = ("sync", str(path), "--offline", "--config-dir", str(CONFIG_DIR), *words)
        done = shared_fork_server().run(words, tmp_path, env={"WANDB_MODE": "offline", **env})
        assert done.code == 0, done.err
        one = mirror(path).run
        return one.run_id, one.project, one.entity

    agents = {"SWEEP_ID": "abc", "RUN_ID": "swept", "PROJECT": "sweeps", "ENTITY": "us"}
    assert place(**{f"WANDB_{name}": value for name, value in agents.items()}) == ("swept", "sweeps", "us")
    assert place() == ("swept", "sweeps", "us")
    assert place("--project", "other") == ("swept", "other", "us")


def test_sync_with_a_key_that_is_none_says_so(run, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    assert main(["sync", str(run.path)]) == ExitCode.REFUSED
    assert "W&B cannot be used: WANDB_API_KEY invalid" in capsys.readouterr().err


def test_sync_makes_the_rows_of_the_run_itself_in_a_folder_that_takes_the_place(run, seen, tmp_path):
    path = tmp_path / "copy"
    shutil.copytree(run.path, path)
    tracker = Wandb()
    tracker.task = run.viewer().task
    done = tracker.sync(path, "offline")
    replayed = mirror(path)
    assert done == Synced(str(replayed.folder), len(seen.rows))
    assert [f.name for f in (path / "wandb").glob("offline-run-*")] == [replayed.folder.name]
    assert [f.name for f in (path / "wandb" / "earlier").iterdir()] == [seen.folder.name]

    def plain(rows):
        return [{k: v for k, v in row.items() if k[0] != "_" and k[:6] != "tables"} for row in rows]

    assert plain(replayed.rows) == plain(seen.rows)
    for live, later in zip(turns(seen), turns(replayed), strict=True):
        for name in ("samples", "outcomes"):
            if f"tables/{name}" in live:
                assert seen.table(live, name) == replayed.table(later, name)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mode", "on", "tracker.mode must be one of null, online, offline, disabled; it is 'on'"),
        ("artifacts", "link", "tracker.artifacts must be one of null, reference, copy; it is 'link'"),
        ("alerts", ["rejects"], "tracker.alerts must be some of failure, guard, review, reject"),
        ("artifacts_kept", 0, "tracker.artifacts_kept must be 1 or more"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_the_run(tmp_path, key, value, message):
    with pytest.raises(ConfigError, match=message):
        run_moons(tmp_path, generations=0, tracker="wandb", **{f"tracker.wandb.{key}": value})
    assert not list(tmp_path.iterdir())


def test_a_long_fit_is_seen_while_it_is_under_way_and_completed_from_the_ledger():
    fit = _Fit()
    values = [{"loss": 1.0 / step} for step in range(1, 101)]
    live = []
    for step, value in enumerate(values, 1):
        if step % 10 != 5:  # dropped by a full queue
            live += fit.add(Step(3, "train", step, 1000 + step), value, now=step * 0.5)
    steps = [row.values["train/step"] for row in live]
    assert steps == sorted(set(steps))
    assert steps[0] == 1001
    assert 1080 < steps[-1] < 1100, "the newest wait: not all values of a step come at once"
    whole = [fit_row(3, 1000 + step, value) for step, value in enumerate(values, 1)]
    left = fit.end(3, whole)
    assert [row.values["train/step"] for row in left] == list(range(steps[-1] + 1, 1101))


def test_a_short_fit_is_logged_once_as_the_ledger_has_it():
    fit = _Fit()
    steps = [Step(3, "train", step, 1000 + step) for step in range(1, 9)]
    assert [row for step in steps for row in fit.add(step, {"loss": 1.0}, now=step.step)] == []
    rows = [fit_row(3, 1000 + step, {"loss": 1.0}) for step in (2, 8)]
    assert fit.end(3, rows) == rows


def test_a_fit_that_is_made_again_after_a_kill_goes_on_where_w_and_b_is():
    fit = _Fit(3, 1004)
    rows = [fit_row(3, 1000 + step, {"loss": 1.0}) for step in range(1, 9)]
    assert fit.end(3, rows) == rows[4:]
    later = [fit_row(4, 1000 + step, {"loss": 1.0}) for step in range(1, 3)]
    assert fit.end(4, later) == later, "generation 3 had failed: its steps are no part of the axis"


def test_the_file_is_read_up_to_where_it_was_cut_off(seen):
    (path,) = seen.folder.glob("*.wandb")
    data = path.read_bytes()
    assert len(data) > 32768, "it has several blocks"
    assert len(list(parse(data))) == len(seen.records)
    assert list(parse(data[:-10])) == seen.records[:-1]


def test_folders_of_sessions_of_one_second_are_all_kept(tmp_path):
    """W&B names a folder by the second."""
    for content in "abc":
        folder = tmp_path / "wandb" / "offline-run-20260101_000000-id"
        folder.mkdir(parents=True)
        (folder / "run-id.wandb").write_text(content)
        set_earlier_aside(tmp_path, "id")
    earlier = sorted((tmp_path / "wandb" / "earlier").iterdir())
    assert [(f / "run-id.wandb").read_text() for f in earlier] == ["a", "b", "c"]
