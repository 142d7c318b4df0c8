import json

from tests.support.harness import MOONS, MOONS_CONF


def test_the_power_of_a_recipe_is_told_before_a_run(answer, folder):
    words = ("power", "--config-dir", MOONS_CONF, "recipe=moons", "error_budget.looks=5", "--gain", "0.05")
    shown = answer(*words)
    assert "recipe moons: 200 items, gate Paired, error 0.2 over 5 looks, 0.036 at the first" in shown
    assert "a gain of 5 points is promoted there" in shown
    report = json.loads(answer(*words, "--json"))
    assert report["check"] is None
    assert [round(case["disagreement"], 9) for case in report["power"]["cases"]] == [
        0.01,
        0.02,
        0.05,
        0.1,
        0.2,
    ]
    assert not (folder / "runs").exists()


def test_the_end_of_a_run_that_promoted_nothing_says_what_it_would_have_seen(answer, finished, folder):
    shown = answer(*MOONS, "log=plain", "generations=1", "name=plain", "+gate.min_effect=0.9")
    assert "power     With 200 items a gain of 1 point is seen 0% of the time." in shown
    assert "power" not in answer(*MOONS, "log=plain", "generations=0", "name=genesis")


def test_greedy_is_no_test_and_has_no_power(answer, refusal, folder):
    shown = answer(*MOONS, "promotion=greedy", "log=plain", "generations=1", "name=greedy")
    assert "champion  generation 1, promoted without a test, " in shown
    assert "power  " not in shown
    assert "promotion=greedy is no test" in refusal("power", "greedy")
    refused = refusal("power", "--config-dir", MOONS_CONF, "recipe=moons", "promotion=greedy")
    assert "promotion=greedy is no test and has no power. Give promotion=each or frontier." in refused


def test_the_power_of_a_run_is_by_its_own_pairs(answer, finished):
    shown = answer("power", "run")
    assert "200 items, gate Paired" in shown
    assert "Drawn from the pairs of 1 looks of this run" in shown


def test_what_is_refused(refusal, finished, answer):
    assert "Expected one run, or recipe=NAME with overrides; got one two." in refusal("power", "one", "two")
    assert "A gain must be above 0 and below 1" in refusal("power", "run", "--gain", "0")
    assert "gate.none" in refusal("power", "--config-dir", MOONS_CONF, "recipe=moons", "gate.none=1")
    answer(*MOONS, "log=quiet", "generations=0", "name=genesis")
    assert "Expected a run with a verdict" in refusal("power", "genesis")
