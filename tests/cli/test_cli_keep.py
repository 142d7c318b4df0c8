"""``reproduce``, ``prune``, ``du`` and the key ``retention`` from the command line."""

from flywheel.storage import ledger
from flywheel.storage.events import Pruned
from flywheel.storage.policy import Policy
from tests.support.harness import MOONS, MOONS_CONF, kinds


def test_reproduce_answers_by_exit_code(answer, json_answer, refusal, finished):
    text = answer("reproduce", "run", "1", "--config-dir", MOONS_CONF)
    assert "the weights are equal to the bit; 0 of 400 evaluated items differ" in text
    assert json_answer("reproduce", "run", "0", "--config-dir", MOONS_CONF)["equal"] is True
    assert "champion, last or final; got 7" in refusal("reproduce", "run", "7", "--config-dir", MOONS_CONF)


def test_prune_is_a_dry_run_until_it_is_told(answer, json_answer, refusal, finished):
    answer(*MOONS, "log=quiet", "generations=3", "name=run")
    assert "Nothing was changed; --yes does it." in answer("prune", "run", "--last", "0")
    assert "pruned" not in kinds(finished)
    assert json_answer("prune", "run", "--last", "0", "--yes")["done"]
    assert kinds(finished)[-1] == "pruned"
    assert "more are pruned" in answer("verify", "run")
    assert answer("samples", "run", "1")
    lineage = json_answer("lineage", "run")["generations"]
    gone = next(entry["generation"] for entry in lineage if entry["pruned"])
    assert answer("lineage", "run").count(", pruned") == sum(entry["pruned"] for entry in lineage)
    assert "pruned" in answer("show", "run", str(gone)).splitlines()[0]
    assert "What to keep must be said" in refusal("prune", "run", "--yes")
    assert "0 or more generations, got -1" in refusal("prune", "run", "--last", "-1")


def test_du_tells_kinds_generations_and_what_prune_frees(answer, json_answer, finished):
    text = answer("du", "run")
    for word in ("weights", "ledger", "generation 1", "prune --promoted --last 3"):
        assert word in text
    assert json_answer("du", "run")["orphans"]["files"] == 0


def test_retention_prunes_after_each_generation(answer, refusal, folder):
    small = (*MOONS, "log=quiet", "settings.steps=2", "name=run")
    answer(*small, "retention.last=1", "generations=2")
    events = ledger.read(folder / "runs" / "moons" / "run")
    assert next(e.policy for e in events if isinstance(e, Pruned)) == Policy(promoted=False, last=1)
    answer(*small, "retention.promoted=true", "retention.last=1", "generations=3")
    for word, rule in (("last=-1", "last must be 0 or more, or null"), ("promoted=last", "promoted")):
        assert f"retention.{rule}" in refusal(*small, f"retention.{word}", "generations=3")
