"""``tune-space RECIPE|RUN``."""

from tests.support.harness import MOONS, MOONS_CONF

SPACE = (
    "tune.space.lr={low: 0.001, high: 0.1, log: true}",
    "tune.space.width={low: 8, high: 32, step: 8, shape: true}",
    "tune.space.threshold={low: 0.0, high: 0.9, when: {width: [8, 16]}}",
    "tune.constraints=['lr * width < 3']",
)


def test_a_recipe_shows_its_space_and_the_values_in_force(answer, json_answer):
    words = ("moons", "--config-dir", MOONS_CONF, *SPACE)
    text = answer("tune-space", *words)
    space = text.partition("constraints")[0].splitlines()
    lines = {line.split()[0]: " ".join(line.split()) for line in space if line.strip()}
    assert lines["lr"] == "lr 0.001 .. 0.1, log 0.01 train"
    assert lines["width"].startswith("width 8 .. 32, step 8 64 (outside) train, shape")
    assert "not now" in text  # width is 64
    assert "lr * width < 3" in text
    assert "chosen" not in text
    report = json_answer("tune-space", *words)
    assert (report["recipe"], report["run"], report["tuner"]) == ("moons", None, "flywheel.tuners.Fixed")
    assert [one["redo_from"] for one in report["settings"]] == ["train", "train", "curate"]
    assert report["constraints"] == ["lr * width < 3"]


def test_overrides_are_in_force(json_answer):
    words = ("recipe=moons", "--config-dir", MOONS_CONF, *SPACE[:2], "settings.width=16", "tuner=random")
    report = json_answer("tune-space", *words)
    width = report["settings"][1]
    assert (width["current"], width["is_inside"]) == (16, True)
    assert report["tuner"] == "flywheel.tuners.Random"


def test_a_recipe_without_a_space_says_how_to_add_one(answer):
    text = answer("tune-space", "moons", "--config-dir", MOONS_CONF)
    assert "recipe moons has no space" in text
    assert "tune.space.lr={low: 0.0001, high: 0.1, log: true}" in text


def test_what_is_wrong_is_said(refusal, finished):
    words = ("tune-space", "moons", "--config-dir", MOONS_CONF)
    assert "low must be below high" in refusal(*words, "tune.space.lr={low: 2, high: 1}")
    assert "no setting 'wdith'. Did you mean width?" in refusal(*words, "tune.space.wdith={low: 1, high: 2}")
    assert "nothing" in refusal("tune-space", "nothing")
    assert "A run has its settings; got seed=1 beside run" in refusal("tune-space", "run", "seed=1")


def test_a_run_shows_what_its_generations_chose(cli, answer, json_answer):
    tuner = ("tuner=random", "tuner.trials=3", "tuner.startup=3", "settings.steps=3")
    done = cli(*MOONS, *SPACE, "settings.width=16", *tuner, "log=quiet", "generations=1", "name=tuned")
    assert done.code == 0, done.err
    text = answer("tune-space", "tuned", "--config-dir", MOONS_CONF)
    rows = {
        line.split()[0]: line.split()[1:] for line in text.partition("chosen")[2].splitlines() if line.strip()
    }
    assert rows["trials"] == ["3", "3"]
    report = json_answer("tune-space", "tuned", "--config-dir", MOONS_CONF)
    assert report["run"].endswith("tuned")
    assert [(one["generation"], one["trials"]) for one in report["generations"]] == [(0, 3), (1, 3)]
    shown = json_answer("show", "tuned", "1")["settings"]
    assert report["generations"][1]["settings"] == {
        name: shown[name] for name in ("lr", "width", "threshold")
    }
