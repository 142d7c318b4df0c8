"""``reproduce``, ``prune``, ``du`` and the key ``retention`` from the command line."""

from __future__ import annotations

import json

from flywheel.storage import ledger
from flywheel.storage.events import Pruned
from flywheel.storage.policy import Policy
from tests.support.harness import MOONS, MOONS_CONF, kinds


def test_reproduce_answers_by_exit_code(cli, finished):
    again = cli("reproduce", str(finished), "1", "--config-dir", MOONS_CONF)
    assert (again.code, again.err) == (0, "")
    assert "the weights are equal to the bit; 0 of 400 evaluated items differ" in again.out
    report = json.loads(cli("reproduce", str(finished), "0", "--config-dir", MOONS_CONF, "--json").out)
    assert report["equal"] is True
    refused = cli("reproduce", str(finished), "7", "--config-dir", MOONS_CONF)
    assert (refused.code, "champion or last; got 7" in refused.err) == (2, True)


def test_prune_is_a_dry_run_until_it_is_told(cli, finished):
    assert cli(*MOONS, "log=quiet", "generations=3", "name=run").code == 0
    dry = cli("prune", str(finished), "--last", "0")
    assert dry.code == 0
    assert "Nothing was changed; --yes does it." in dry.out
    assert "pruned" not in kinds(finished)
    assert json.loads(cli("prune", str(finished), "--last", "0", "--yes", "--json").out)["done"]
    assert kinds(finished)[-1] == "pruned"
    verified = cli("verify", str(finished))
    assert (verified.code, "more are pruned" in verified.out) == (0, True)
    assert cli("samples", str(finished), "1").code == 0
    lineage = json.loads(cli("lineage", str(finished), "--json").out)["generations"]
    gone = next(entry["generation"] for entry in lineage if entry["pruned"])
    assert cli("lineage", str(finished)).out.count(", pruned") == sum(e["pruned"] for e in lineage)
    assert "pruned" in cli("show", str(finished), str(gone)).out.splitlines()[0]
    refused = cli("prune", str(finished), "--yes")
    assert (refused.code, "What to keep must be said" in refused.err) == (2, True)
    refused = cli("prune", str(finished), "--last", "-1")
    assert (refused.code, "0 or more generations, got -1" in refused.err) == (2, True)


def test_du_tells_kinds_generations_and_what_prune_frees(cli, finished):
    told = cli("du", str(finished)).out
    for word in ("weights", "ledger", "generation 1", "prune --promoted --last 3"):
        assert word in told
    assert json.loads(cli("du", str(finished), "--json").out)["orphans"]["files"] == 0


def test_retention_prunes_after_each_generation(cli, folder):
    small = (*MOONS, "log=quiet", "settings.steps=2", "name=run")
    assert cli(*small, "retention.last=1", "generations=2").code == 0
    events = ledger.read(folder / "runs" / "moons" / "run")
    assert next(e.policy for e in events if isinstance(e, Pruned)) == Policy(promoted=False, last=1)
    assert cli(*small, "retention.promoted=true", "retention.last=1", "generations=3").code == 0
    refused = cli(*small, "retention.last=-1", "generations=3")
    assert (refused.code, "retention.last must be 0 or more, or null" in refused.err) == (2, True)
    refused = cli(*small, "retention.promoted=last", "generations=3")
    assert (refused.code, "retention.promoted" in refused.err) == (2, True)
